//! What the commands that try a plugin without a node have in common.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::options::parse_plugin_option;

/// What a plugin is tried with.
#[derive(Args, Clone, Debug)]
pub struct Trial {
    /// Which of the backend types that the plugin is for; without it the first. Without REF the built-in plugin for it
    #[arg(long = "type", value_name = "NAME")]
    pub backend_type: Option<String>,
    /// The network config's `Backend` object, or its options alone, such as {"MTU":1400}
    #[arg(long, value_name = "JSON")]
    pub backend: Option<String>,
    /// Leases to hand over instead of made-up ones, whose nodes publish what the plugin says: a JSON array of lease values as in
    /// etcd, each with its Subnet or IPv6Subnet or both; or an object with Leases, and Node: Interface, MTU, IPv4, IPv6, PublicIP,
    /// PublicIPv6, Network, IPv6Network, Subnet, IPv6Subnet, OnLink, Uplinks (Name, MTU, Addresses)
    #[arg(long, value_name = "FILE")]
    pub leases: Option<PathBuf>,
    /// What all nodes are told of themselves alone, as by the daemon's --plugin-option
    #[arg(long = "plugin-option", value_name = "NAME=VALUE", value_delimiter = ',', value_parser = parse_plugin_option)]
    pub plugin_option: Vec<(String, String)>,
    /// Labels that all nodes have, as in Kubernetes
    #[arg(long = "node-label", value_name = "NAME=VALUE", value_delimiter = ',', value_parser = parse_plugin_option)]
    pub node_label: Vec<(String, String)>,
    /// A cluster with IPv6 too, if the leases' file does not say otherwise
    #[arg(long, requires = "leases")]
    pub ipv6: bool,
}

/// The families of a cluster that a plugin is developed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClusterFamilies {
    /// IPv4 alone.
    Ipv4,
    /// IPv4 and IPv6.
    Dual,
}
