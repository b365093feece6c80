//! The firewall's rules for this node: which are wanted, and what becomes of them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use flannel_firewall::{FamilyRules, Firewall, FirewallError, Mode, Rules, bridge_netfilter_missing};
use flannel_model::lease::Subnets;
use flannel_model::network_config::NetworkConfig;
use flannel_telemetry::status;
use tracing::warn;

use crate::cli::Options;
use crate::node::firewall_owner::Ownership;

use super::in_order::InOrder;

/// The firewall from the first rules on. It stays while the node starts over with another external interface.
#[derive(Clone)]
pub(super) struct NodeFirewall {
    firewall: Arc<OnceLock<Firewall>>,
    ownership: Ownership,
    work: Arc<InOrder>,
}

impl NodeFirewall {
    /// Without rules at first. Needs a tokio runtime.
    pub(super) fn new(ownership: Ownership) -> Self {
        Self { firewall: Arc::default(), ownership, work: Arc::new(InOrder::start()) }
    }

    /// Puts the rules for these subnets in place, after all that was wanted before; `done` hears what came of it.
    pub(super) fn set(
        &self,
        options: &Options,
        config: &NetworkConfig,
        subnets: &Subnets,
        done: impl FnOnce(Result<(), FirewallError>) + Send + 'static,
    ) {
        let rules = rules(options, config, subnets, &self.ownership);
        let mode = if config.enable_nftables { Mode::Nftables } else { Mode::Iptables };
        let (ipv4, ipv6) = (config.enable_ipv4, config.enable_ipv6);
        let resync = Duration::from_secs(options.iptables_resync.unsigned_abs());
        let cell = Arc::clone(&self.firewall);
        self.work.push(async move {
            if let Some(firewall) = cell.get() {
                return done(firewall.set(rules).await);
            }
            if mode == Mode::Iptables
                && let Some(warning) = bridge_netfilter_missing(ipv4, ipv6)
            {
                warn!("{warning}");
            }
            let started = Firewall::start(mode, rules, resync).await;
            done(started.map(|firewall| {
                let _ = cell.set(firewall);
            }));
        });
    }

    /// How the rules stand, for the operator; `None` before the first are in place.
    pub(super) fn status(&self) -> Option<status::Firewall> {
        let status = self.firewall.get()?.status();
        Some(status::Firewall {
            mode: status.mode.to_string(),
            ok: status.ok,
            error: status.last_error,
            repairs: status.repairs,
        })
    }
}

fn rules(options: &Options, config: &NetworkConfig, subnets: &Subnets, ownership: &Ownership) -> Rules {
    let v4 = config.network.zip(subnets.v4).filter(|_| config.enable_ipv4);
    let v6 = config.ipv6_network.zip(subnets.v6).filter(|_| config.enable_ipv6);
    let v4 = v4.map(|(cluster, subnet)| FamilyRules { cluster: cluster.into(), subnet: subnet.into() });
    let v6 = v6.map(|(cluster, subnet)| FamilyRules { cluster: cluster.into(), subnet: subnet.into() });
    Rules {
        owner: ownership.owner.clone(),
        former: ownership.former.clone(),
        families: v4.into_iter().chain(v6).collect(),
        masquerade: options.ip_masq,
        random_fully: !options.ip_masq_fully_random_disable,
        forward: options.iptables_forward_rules,
    }
}
