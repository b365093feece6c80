//! The firewall's rules for this node: which are wanted, and what becomes of them.

use std::time::Duration;

use flannel_firewall::{FamilyRules, Firewall, Mode, Rules, bridge_netfilter_missing};
use flannel_model::lease::Subnets;
use flannel_model::network_config::NetworkConfig;
use flannel_telemetry::status;
use tracing::warn;

use crate::cli::Options;

use super::DaemonError;

/// Puts the rules for these subnets in place, in the firewall that there is already or in a new one.
pub(super) async fn ensure(
    firewall: Option<Firewall>,
    options: &Options,
    config: &NetworkConfig,
    subnets: &Subnets,
) -> Result<Firewall, DaemonError> {
    let rules = rules(options, config, subnets);
    if let Some(firewall) = firewall {
        firewall.set(rules).await?;
        return Ok(firewall);
    }
    let mode = if config.enable_nftables { Mode::Nftables } else { Mode::Iptables };
    if mode == Mode::Iptables
        && let Some(warning) = bridge_netfilter_missing(config.enable_ipv4, config.enable_ipv6)
    {
        warn!("{warning}");
    }
    let resync = Duration::from_secs(options.iptables_resync.unsigned_abs());
    Ok(Firewall::start(mode, rules, resync).await?)
}

fn rules(options: &Options, config: &NetworkConfig, subnets: &Subnets) -> Rules {
    let v4 = config.network.zip(subnets.v4).filter(|_| config.enable_ipv4);
    let v6 = config.ipv6_network.zip(subnets.v6).filter(|_| config.enable_ipv6);
    let v4 = v4.map(|(cluster, subnet)| FamilyRules { cluster: cluster.into(), subnet: subnet.into() });
    let v6 = v6.map(|(cluster, subnet)| FamilyRules { cluster: cluster.into(), subnet: subnet.into() });
    Rules {
        families: v4.into_iter().chain(v6).collect(),
        masquerade: options.ip_masq,
        random_fully: !options.ip_masq_fully_random_disable,
        forward: options.iptables_forward_rules,
    }
}

/// How the rules stand, for the operator.
pub(super) fn status(firewall: &Firewall) -> status::Firewall {
    let status = firewall.status();
    status::Firewall {
        mode: status.mode.to_string(),
        ok: status.ok,
        error: status.last_error,
        repairs: status.repairs,
    }
}
