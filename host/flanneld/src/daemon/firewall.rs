//! The firewall's rules for this node: which are wanted, and what becomes of them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use flannel_firewall::{
    FamilyRules, Firewall, FirewallError, Mode, Rules, SourcesStatus, TunnelSources, bridge_netfilter_missing,
};
use flannel_model::lease::Subnets;
use flannel_model::network_config::NetworkConfig;
use flannel_plugin_host::PeerChange;
use flannel_telemetry::status;
use ipnet::IpNet;
use tracing::warn;

use crate::cli::{Options, Store};
use crate::node::firewall_owner::Ownership;

use super::DaemonError;
use super::in_order::InOrder;
use super::tunnel_sources::{self, Devices};

/// The firewall from the first rules on. It stays while the node starts over with another external interface.
#[derive(Clone)]
pub(super) struct NodeFirewall {
    firewall: Arc<OnceLock<Firewall>>,
    /// Only if it is wanted.
    sources: Option<Arc<TunnelSources>>,
    ownership: Ownership,
    /// Networks that the cluster had before.
    former_networks: Arc<[IpNet]>,
    work: Arc<InOrder>,
}

impl NodeFirewall {
    /// Without rules at first. Needs a tokio runtime.
    pub(super) fn new(
        options: &Options,
        ownership: Ownership,
        former_networks: &[IpNet],
    ) -> Result<Self, DaemonError> {
        // Where the operator makes the rules, these are the operator's, too.
        let is_ours = options.ip_masq || options.iptables_forward_rules;
        let sources = (options.tunnel_source_check && is_ours)
            .then(|| TunnelSources::start(&ownership.owner).map(Arc::new))
            .transpose()
            .map_err(DaemonError::Thread)?;
        let (former_networks, work) = (former_networks.into(), Arc::new(InOrder::start()));
        Ok(Self { firewall: Arc::default(), sources, ownership, former_networks, work })
    }

    /// Packets come out of these devices, and of no others.
    pub(super) fn set_tunnels(&self, config: &NetworkConfig, devices: &Devices) {
        if let Some(sources) = &self.sources {
            sources.set_tunnels(tunnel_sources::tunnels(config, devices));
        }
    }

    /// These peers may send into tunnels, and no others.
    pub(super) fn admit(&self, peers: &[PeerChange]) {
        if let Some(sources) = &self.sources {
            sources.set_peers(tunnel_sources::addresses(peers));
        }
    }

    /// These peers may send into tunnels, too, or do not any more.
    pub(super) fn admit_also(&self, peers: &[PeerChange]) {
        if let Some(sources) = &self.sources {
            sources.change_peers(tunnel_sources::addresses(peers));
        }
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
        let rules = Rules { former_networks: self.former_networks.to_vec(), ..rules };
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
            sources: self.sources.as_ref().map(|sources| sources.status()).and_then(shown),
        })
    }
}

/// For the operator; nothing where there is no tunnel.
fn shown(status: SourcesStatus) -> Option<status::TunnelSources> {
    let SourcesStatus { in_place, error, addresses, dropped } = status;
    (in_place || error.is_some()).then_some(status::TunnelSources { in_place, error, addresses, dropped })
}

fn rules(options: &Options, config: &NetworkConfig, subnets: &Subnets, ownership: &Ownership) -> Rules {
    let v4 = config.network.zip(subnets.v4).filter(|_| config.enable_ipv4);
    let v6 = config.ipv6_network.zip(subnets.v6).filter(|_| config.enable_ipv6);
    let v4 = v4.map(|(cluster, subnet)| FamilyRules { cluster: cluster.into(), subnet: subnet.into() });
    let v6 = v6.map(|(cluster, subnet)| FamilyRules { cluster: cluster.into(), subnet: subnet.into() });
    Rules {
        owner: ownership.owner.clone(),
        former: ownership.former.clone(),
        beside: ownership.beside.clone(),
        families: v4.into_iter().chain(v6).collect(),
        masquerade: options.ip_masq,
        random_fully: !options.ip_masq_fully_random_disable,
        forward: options.iptables_forward_rules,
        former_networks: Vec::new(),
        beside_kubelet: options.store == Store::Kube,
    }
}
