//! The subnet file, as container runtimes read it.

use std::path::Path;

use anyhow::{Context, Result};
use ipnet::{Ipv4Net, Ipv6Net};

/// What `subnet.env` says. A subnet here is the gateway's address with the subnet's length, as it is in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetEnv {
    /// The whole file.
    pub text: String,
    /// The node's IPv4 subnet.
    pub subnet: Option<Ipv4Net>,
    /// The node's IPv6 subnet.
    pub subnet_v6: Option<Ipv6Net>,
    /// Bytes of the largest packet of a pod.
    pub mtu: u32,
    /// The cluster's networks, as text, IPv4 first.
    pub networks: Vec<String>,
    /// Whether flanneld masquerades, so that the container runtime need not.
    pub ip_masq: bool,
}

impl SubnetEnv {
    /// Reads the file; none if it is not there.
    pub fn read(file: &Path) -> Result<Option<Self>> {
        match std::fs::read_to_string(file) {
            Ok(text) => Self::parse(text).with_context(|| file.display().to_string()).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| file.display().to_string()),
        }
    }

    fn parse(text: String) -> Result<Self> {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let subnet = value("FLANNEL_SUBNET").map(str::parse).transpose().context("FLANNEL_SUBNET")?;
        let subnet_v6 =
            value("FLANNEL_IPV6_SUBNET").map(str::parse).transpose().context("FLANNEL_IPV6_SUBNET")?;
        let mtu = value("FLANNEL_MTU").context("FLANNEL_MTU is missing")?.parse().context("FLANNEL_MTU")?;
        let networks = ["FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"].into_iter().filter_map(value);
        let networks = networks.map(ToOwned::to_owned).collect();
        let ip_masq = value("FLANNEL_IPMASQ").context("FLANNEL_IPMASQ is missing")? == "true";
        Ok(Self { text, subnet, subnet_v6, mtu, networks, ip_masq })
    }

    /// The subnets as networks, as text, IPv4 first.
    pub fn subnets(&self) -> Vec<String> {
        let v4 = self.subnet.map(|subnet| subnet.trunc().to_string());
        let v6 = self.subnet_v6.map(|subnet| subnet.trunc().to_string());
        v4.into_iter().chain(v6).collect()
    }
}
