//! What a plugin would be told of this node, for a network config that is not in force. Nothing is written down.

use std::net::IpAddr;

use flannel_model::network_config::NetworkConfig;
use flannel_plugin_host::NodeFacts;
use flannel_telemetry::status;
use ipnet::IpNet;

use super::external::{ExternalError, InterfaceSelector, IpFamilies, Wish, choose};
use super::inventory::Inventory;
use super::own_addresses;
use super::subnet_file::SubnetFile;
use crate::cli::Options;

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum ProspectError {
    /// There is no external interface.
    #[error(transparent)]
    External(#[from] ExternalError),
    /// The kernel does not say what there is.
    #[error("the kernel's interfaces cannot be listed: {0}")]
    Kernel(#[from] rtnetlink::Error),
}

/// The node as a plugin would be told of it. `running`: what the daemon of this node says; where it does not run, the interface is chosen as it
/// would be.
pub async fn facts(
    options: &Options,
    config: &NetworkConfig,
    running: Option<&status::Node>,
) -> Result<NodeFacts, ProspectError> {
    let wish = wish(options, config, running);
    let external = choose(&wish, &Inventory::take(wish.selector.can_reach).await?)?;
    Ok(NodeFacts {
        interface: external.name,
        mtu: external.mtu,
        ipv4: external.ipv4,
        ipv6: external.ipv6,
        public_ipv4: external.public_ipv4,
        public_ipv6: external.public_ipv6,
        ipv4_network: config.network.filter(|_| config.enable_ipv4),
        ipv6_network: config.ipv6_network.filter(|_| config.enable_ipv6),
    })
}

/// The networks that the cluster has or had, as far as the options and the subnet file say.
pub fn networks(options: &Options, config: &NetworkConfig) -> Vec<IpNet> {
    let mut networks = in_config(config);
    networks.extend(former(options, config));
    networks
}

fn former(options: &Options, config: &NetworkConfig) -> Vec<IpNet> {
    let in_config = in_config(config);
    let mut former = options.former_networks.clone();
    former.extend(SubnetFile::networks(&options.subnet_file));
    former.retain(|network| !in_config.contains(network));
    former
}

fn in_config(config: &NetworkConfig) -> Vec<IpNet> {
    let v4 = config.network.filter(|_| config.enable_ipv4).map(IpNet::V4);
    let v6 = config.ipv6_network.filter(|_| config.enable_ipv6).map(IpNet::V6);
    v4.into_iter().chain(v6).collect()
}

fn wish(options: &Options, config: &NetworkConfig, running: Option<&status::Node>) -> Wish {
    let published = |v4: bool| {
        running.into_iter().flat_map(|node| &node.public_addresses).copied().find(|ip| ip.is_ipv4() == v4)
    };
    let public_ip = match published(true) {
        Some(IpAddr::V4(ip)) => Some(ip),
        _ => options.public_ip,
    };
    let public_ipv6 = match published(false) {
        Some(IpAddr::V6(ip)) => Some(ip),
        _ => options.public_ipv6,
    };
    let selector = InterfaceSelector { public_ip, public_ipv6, ..InterfaceSelector::default() };
    let selector = match running {
        Some(node) => InterfaceSelector { iface: vec![node.interface.clone()], ..selector },
        None => InterfaceSelector {
            iface: options.iface.clone(),
            iface_regex: options.iface_regex.clone(),
            can_reach: options.iface_can_reach,
            ..selector
        },
    };
    let known_as =
        running.map_or_else(|| own_addresses::remembered(&options.state_dir), |node| node.addresses.clone());
    Wish {
        selector,
        families: IpFamilies { ipv4: config.enable_ipv4, ipv6: config.enable_ipv6 },
        pods: config.pod_ranges().collect(),
        former: former(options, config),
        known_as,
    }
}
