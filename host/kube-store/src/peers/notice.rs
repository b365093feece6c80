//! What an operator should know of a peer, each once in a node's life.

use std::net::IpAddr;

use flannel_model::lease::Subnets;
use ipnet::IpNet;

/// Why a node's lease is not served; one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has what this node has been assigned.
    #[error(
        "its podCIDR {theirs} overlaps {ours} of this node, {own}: one of the two nodes has to be deleted and made again, so that it is assigned another one"
    )]
    OverlapsOwn {
        /// What the peer has been assigned.
        theirs: Subnets,
        /// What this node has been assigned.
        ours: Subnets,
        /// This node's name.
        own: String,
    },
    /// It is reached at this node's own address.
    #[error(
        "it publishes {address}, which is an address of this node, {own}: either this machine is a clone of the other, or both have chosen an interface whose address is the same on all machines, as 10.0.2.15 is behind NAT: choose another one by --iface, or the annotation node-public-ip"
    )]
    OwnAddress {
        /// The address.
        address: IpAddr,
        /// This node's name.
        own: String,
    },
    /// It says nothing that can be read.
    #[error("{0}")]
    Unreadable(String),
    /// It has no subnet and address of one family, in any that the cluster has.
    #[error("it has no podCIDR and public address of a family that is on in the network config")]
    NoFamily,
}

/// What is noteworthy about a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {node}: {what}")]
pub struct Notice {
    /// The node's name.
    pub node: String,
    /// What of it.
    pub what: Noteworthy,
}

/// What can be noteworthy about a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Noteworthy {
    /// Its lease is not served.
    #[error("its lease is not served: {0}")]
    Refused(Refusal),
    /// Some of its annotations cannot be read; what they were is served on.
    #[error("what cannot be read in its annotations stays what it was: {0}")]
    Unreadable(String),
    /// Its annotations are gone; what they were is served on.
    #[error(
        "its annotations are gone, and what they were goes on to be served: its daemon writes them again when it runs"
    )]
    AnnotationsLost,
    /// Its subnet is not in the cluster's network, and served all the same.
    #[error("its podCIDR {cidr} does not lie in {field} {network} of the network config")]
    OutsideNetwork {
        /// The subnet.
        cidr: IpNet,
        /// The network config's field.
        field: &'static str,
        /// Its value.
        network: IpNet,
    },
    /// Another node has the same subnet, and is reached in its place.
    #[error(
        "its podCIDR {cidr} is that of node {other} too, which is reached by it: one of the two nodes has to be deleted and made again"
    )]
    SameCidr {
        /// The subnet.
        cidr: IpNet,
        /// The other node's name.
        other: String,
    },
}

impl Noteworthy {
    /// A bit for each kind.
    pub(super) fn bit(&self) -> u8 {
        match self {
            Self::Refused(Refusal::OverlapsOwn { .. }) => 1,
            Self::Refused(Refusal::OwnAddress { .. }) => 2,
            Self::Refused(Refusal::Unreadable(_)) | Self::Unreadable(_) => 4,
            Self::Refused(Refusal::NoFamily) => 8,
            Self::AnnotationsLost => 16,
            Self::OutsideNetwork { .. } => 32,
            Self::SameCidr { .. } => 64,
        }
    }
}
