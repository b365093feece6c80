//! Which families a node of Kubernetes serves, in a cluster with both: those in which it has a podCIDR and an address. What is lacking of the other
//! one is said, and when it is there the node starts over, as after a restart of its daemon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_base::LogThrottle;
use flannel_kube_store::families::Families;
use flannel_kube_store::store::Before;
use flannel_lease_store::LeaseStore;
use flannel_model::network_config::NetworkConfig;
use flannel_telemetry::Lack;
use tracing::{info, warn};

use crate::cli::Options;
use crate::node::external::{External, ExternalError, IpFamilies, Wish, choose};
use crate::node::inventory::Inventory;

use super::DaemonError;
use super::kube_node::KubeNode;
use super::observer::Observer;
use super::start;

/// How often it is looked whether there is what is lacking.
const LOOK: Duration = Duration::from_secs(2);
/// How often the log repeats that we are waiting.
const REMIND: Duration = Duration::from_mins(1);
const BOTH: Families = Families { ipv4: true, ipv6: true };
const IPV4: Families = Families { ipv4: true, ipv6: false };
const IPV6: Families = Families { ipv4: false, ipv6: true };

/// What a node serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Served {
    /// The families; both where the cluster has one alone.
    pub families: Families,
    /// What is lacking, if the cluster has more.
    pub lacking: Option<String>,
}

impl Served {
    const ALL: Self = Self { families: BOTH, lacking: None };

    /// By the subnets that a node has been assigned. Without any nothing is known yet.
    fn by_subnets(config: &NetworkConfig, before: &Before) -> Self {
        let is_dual = config.enable_ipv4 && config.enable_ipv6;
        let assigned = before.assigned.filter(|_| is_dual);
        let (families, missing) = match assigned.map(|it| (it.v4.is_some(), it.v6.is_some())) {
            Some((true, false)) => (IPV4, "IPv6"),
            Some((false, true)) => (IPV6, "IPv4"),
            _ => return Self::ALL,
        };
        let lacking = format!(
            "this node has no {missing} podCIDR, and {missing} is on in the network config: it serves the other family alone until its object is made \
             again with both, which takes a controller manager whose cluster CIDR has both"
        );
        Self { families, lacking: Some(lacking) }
    }

    /// Which of these families there is an address for, if that is missing for one of both.
    fn by_address(wish: &Wish, error: &ExternalError, inventory: &Inventory) -> Option<Self> {
        if !matches!(error, ExternalError::NoAddress { .. } | ExternalError::NoDefaultRoute { .. }) {
            return None;
        }
        let both = wish.families.ipv4 && wish.families.ipv6;
        let families = [IPV4, IPV6]
            .into_iter()
            .filter(|_| both)
            .find(|families| choose(&Wish { families: of(*families), ..wish.clone() }, inventory).is_ok())?;
        let lacking = format!("{error}: this node serves the other family alone until it has one");
        Some(Self { families, lacking: Some(lacking) })
    }

    /// A config of the cluster, as this node takes it.
    pub(super) fn of(&self, config: &NetworkConfig) -> NetworkConfig {
        config.clone().of_families(self.families.ipv4, self.families.ipv6)
    }
}

fn of(families: Families) -> IpFamilies {
    IpFamilies { ipv4: families.ipv4, ipv6: families.ipv6 }
}

/// A node of Kubernetes in a cluster, as that has it whatever the node serves of it.
pub(super) struct Cluster<'a> {
    pub options: &'a Options,
    pub config: &'a NetworkConfig,
    pub store: &'a dyn LeaseStore,
    pub kube: &'a KubeNode,
    pub observer: &'a Observer,
}

/// What a node begins with.
pub(super) struct Beginning {
    pub before: Arc<Before>,
    pub wish: Arc<Wish>,
    pub external: External,
    pub served: Served,
}

impl Cluster<'_> {
    fn is_dual(&self) -> bool {
        self.config.enable_ipv4 && self.config.enable_ipv6
    }

    /// What the node serves, and the external interface for that. Both are waited for: in a cluster with both families nothing can be begun
    /// before it is known which of them the node has.
    pub(super) async fn begin(&self, before: Arc<Before>, wish: Arc<Wish>) -> Result<Beginning, DaemonError> {
        let (mut before, mut wish) = (before, wish);
        let mut throttle = LogThrottle::new(Some(REMIND));
        let mut waited = false;
        loop {
            let served = Served::by_subnets(self.config, &before);
            let wanted = Wish {
                families: IpFamilies {
                    ipv4: wish.families.ipv4 && served.families.ipv4,
                    ipv6: wish.families.ipv6 && served.families.ipv6,
                },
                ..Wish::clone(&wish)
            };
            let reason = if self.is_dual() && before.assigned.is_none() {
                before.not_assigned()
            } else {
                match self.external(&wanted, &before).await? {
                    Ok((external, less)) => {
                        if waited {
                            self.observer.waits_for(String::new());
                        }
                        let served = less.unwrap_or(served);
                        let families = IpFamilies {
                            ipv4: wanted.families.ipv4 && served.families.ipv4,
                            ipv6: wanted.families.ipv6 && served.families.ipv6,
                        };
                        let wish = Arc::new(Wish { families, ..wanted });
                        return Ok(Beginning { before, wish, external, served });
                    }
                    Err(error) => {
                        let hints = &before.hints;
                        let annotated = hints.public_ip.is_some() || hints.public_ipv6.is_some();
                        let whose =
                            if annotated { "; the address is that of the node's annotation" } else { "" };
                        format!("{}{whose}", DaemonError::External(error))
                    }
                }
            };
            if throttle.says(&reason, Instant::now()) {
                warn!("{reason}; looking again until there is one");
            }
            self.observer.waits_for(reason);
            waited = true;
            tokio::time::sleep(LOOK).await;
            before = Arc::new(self.kube.before(&self.observer.store).await?);
            wish = Arc::new(start::wish(self.options, self.config, Some(&before)));
        }
    }

    /// The external interface, of fewer families if there is no address of one.
    async fn external(
        &self,
        wish: &Wish,
        before: &Before,
    ) -> Result<Result<(External, Option<Served>), ExternalError>, DaemonError> {
        let error = match start::external(self.options, wish, self.store, Some(before)).await {
            Ok(external) => return Ok(Ok((external, None))),
            Err(DaemonError::External(error)) => error,
            Err(error) => return Err(error),
        };
        let inventory = Inventory::take(wish.selector.can_reach).await?;
        let Some(served) = Served::by_address(wish, &error, &inventory) else { return Ok(Err(error)) };
        let less = Wish { families: of(served.families), ..wish.clone() };
        match start::external(self.options, &less, self.store, Some(before)).await {
            Ok(external) => Ok(Ok((external, Some(served)))),
            Err(DaemonError::External(error)) => Ok(Err(error)),
            Err(error) => Err(error),
        }
    }

    /// Says what is served, and what is not.
    pub(super) fn take(&self, served: &Served) {
        self.kube.serve(served.families);
        if let Some(lacking) = &served.lacking {
            warn!("{lacking}");
        }
        self.observer.lacks(Lack::Family, served.lacking.clone());
    }

    /// Waits until the node could serve other families than it does. `asks`: the API server is asked, as long as it tells nothing.
    pub(super) async fn changed(&self, served: &Served, asks: bool) {
        let mut throttle = LogThrottle::new(Some(REMIND));
        loop {
            tokio::time::sleep(LOOK).await;
            if !self.is_dual() {
                continue;
            }
            let before = match self.kube.heard() {
                Some(before) => before,
                None if asks => match self.kube.before(&self.observer.store).await {
                    Ok(before) => before,
                    Err(_) => continue,
                },
                None => continue,
            };
            if before.assigned.is_none() {
                continue;
            }
            let now = Served::by_subnets(self.config, &before);
            if now.families == served.families {
                continue;
            }
            // It may be an address that is lacking.
            if now.families == BOTH {
                let wish = start::wish(self.options, self.config, Some(&before));
                let Ok(inventory) = Inventory::take(wish.selector.can_reach).await else { continue };
                if let Err(error) = choose(&wish, &inventory) {
                    if throttle.says(&error.to_string(), Instant::now()) {
                        info!("not both families can be served yet: {error}");
                    }
                    continue;
                }
            }
            info!(
                "other families can be served than are: starting over with them, forwarding goes on meanwhile"
            );
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use flannel_model::lease::Subnets;

    use super::*;
    use crate::node::inventory::{Address, Interface};

    const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56"}"#;
    const V4: &str = r#"{"Network":"10.244.0.0/16"}"#;

    fn config(text: &str) -> NetworkConfig {
        NetworkConfig::parse_for_assigned_subnets(text).expect("a network config")
    }

    fn with_subnets(v4: Option<&str>, v6: Option<&str>) -> Before {
        let assigned =
            Subnets { v4: v4.and_then(|v4| v4.parse().ok()), v6: v6.and_then(|v6| v6.parse().ok()) };
        Before {
            name: "n1".to_owned(),
            hints: flannel_kube_store::annotated::Hints::default(),
            assigned: Some(assigned),
            lease: None,
        }
    }

    /// `eth0`, with the default routes and these addresses.
    fn on_eth0(addresses: &[&str]) -> Inventory {
        let address = |ip: &&str| Address {
            ip: ip.parse().expect("an address"),
            prefix: 24,
            deprecated: false,
            permanent: true,
            temporary: false,
            secondary: false,
            tentative: false,
            duplicate: false,
        };
        let addresses = addresses.iter().map(address).collect();
        Inventory {
            interfaces: vec![Interface { index: 2, name: "eth0".to_owned(), mtu: 1500, addresses }],
            default_v4: BTreeSet::from([2]),
            default_v6: BTreeSet::from([2]),
            gateways: BTreeSet::new(),
            reach: None,
        }
    }

    #[test]
    fn a_node_of_a_cluster_with_both_families_serves_those_that_it_has_been_assigned() {
        const FOUR: Option<&str> = Some("10.244.1.0/24");
        const SIX: Option<&str> = Some("fd00:10:244:1::/64");
        for (v4, v6, families, missing) in [
            (FOUR, None, IPV4, "IPv6"),
            (None, SIX, IPV6, "IPv4"),
            (FOUR, SIX, BOTH, ""),
            (None, None, BOTH, ""),
        ] {
            let before = with_subnets(v4, v6);
            let served = Served::by_subnets(&config(DUAL), &before);
            assert_eq!(served.families, families);
            let said = (!missing.is_empty()).then(|| format!("this node has no {missing} podCIDR"));
            assert_eq!(served.lacking.is_some(), said.is_some());
            assert!(served.lacking.zip(said).is_none_or(|(lacking, said)| lacking.starts_with(&said)));
            assert_eq!(Served::by_subnets(&config(V4), &before), Served::ALL, "there is but one");
        }
        let unassigned = Before { assigned: None, ..with_subnets(None, None) };
        assert_eq!(Served::by_subnets(&config(DUAL), &unassigned), Served::ALL, "nothing is known yet");
    }

    #[test]
    fn a_config_is_taken_without_the_family_that_is_not_served() {
        let served = Served::by_subnets(&config(DUAL), &with_subnets(Some("10.244.1.0/24"), None));
        let taken = served.of(&config(DUAL));
        assert!(taken.enable_ipv4 && !taken.enable_ipv6);
    }

    #[test]
    fn a_node_serves_the_family_that_it_has_an_address_of() {
        let families = IpFamilies { ipv4: true, ipv6: true };
        let wish = Wish { families, ..Wish::default() };
        for (addresses, families, said) in [
            (&["192.0.2.1"][..], Some(IPV4), "interface eth0 has no IPv6 address"),
            (&["2001:db8::1"], Some(IPV6), "interface eth0 has no IPv4 address"),
            (&[], None, ""),
        ] {
            let inventory = on_eth0(addresses);
            let error = choose(&wish, &inventory).expect_err("not both");
            let served = Served::by_address(&wish, &error, &inventory);
            assert_eq!(served.as_ref().map(|served| served.families), families);
            let lacking = served.and_then(|served| served.lacking).unwrap_or_default();
            assert!(lacking.starts_with(said), "{lacking}");
        }
        let four = Wish { families: IpFamilies { ipv4: true, ipv6: false }, ..Wish::default() };
        let inventory = on_eth0(&["2001:db8::1"]);
        let error = choose(&four, &inventory).expect_err("no IPv4");
        assert_eq!(Served::by_address(&four, &error, &inventory), None, "there is no other");
    }
}
