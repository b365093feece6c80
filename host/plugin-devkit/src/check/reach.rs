//! What is reached over the plugin's devices: the cluster network less the node's own subnet, and nothing because of an address.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::node::SampleNode;
use super::subject::Subject;
use super::{Outcome, Stop};

/// An address brings no route to its prefix: one that looks as if it did is a mistake.
pub(super) fn addresses(subject: &Subject) -> Outcome {
    let session = subject.start()?;
    let own = SampleNode::own(subject.families).subnets;
    let mut count = 0;
    for (device, addresses) in &session.declared.addresses {
        for address in addresses {
            if !own.contains(&address.trunc()) {
                return Err(Stop::Failed(format!(
                    "{address} on {device} reaches beyond this node's subnet, {own}: an address brings no route; right are /32, for IPv6 /128, and `set-networks` for what is behind the device"
                )));
            }
            count += 1;
        }
    }
    Ok(format!("{count} address{}", if count == 1 { "" } else { "es" }))
}

/// Whichever subnet of what is behind its devices is the node's own: its pods are not there.
pub(super) fn networks(subject: &Subject) -> Outcome {
    let declared = subject.start()?.declared.networks;
    let networks: Vec<IpNet> = declared.into_values().flatten().collect();
    for network in &networks {
        let mut node = subject.node();
        match network {
            IpNet::V4(network) => node.subnets.v4 = Some(first_v4(*network)),
            IpNet::V6(network) => node.subnets.v6 = Some(first_v6(*network)),
        }
        let own = node.subnets;
        let fails = |reason: String| Stop::Failed(format!("where the node's own subnet is {own}: {reason}"));
        let session = subject.start_on(&node, &subject.backend).map_err(|error| fails(error.to_string()))?;
        let mut behind = session.declared.networks.values().flatten();
        if let Some(network) = behind.find(|network| own.contains(network)) {
            return Err(fails(format!("{network} is behind a device")));
        }
    }
    Ok(match networks.len() {
        0 => "no networks".to_owned(),
        1 => "1 network".to_owned(),
        count => format!("{count} networks"),
    })
}

/// A subnet of a node's that lies in a network, or is it.
fn first_v4(network: Ipv4Net) -> Ipv4Net {
    Ipv4Net::new(network.network(), network.prefix_len().max(24)).unwrap_or(network)
}

fn first_v6(network: Ipv6Net) -> Ipv6Net {
    Ipv6Net::new(network.network(), network.prefix_len().max(64)).unwrap_or(network)
}
