//! What a peer's lease lets a plugin declare for it: the peer's subnets behind addresses that the peer has published, and no others.

use std::fmt::Display;
use std::net::IpAddr;

use flannel_model::lease::Lease;
use ipnet::IpNet;

use crate::bindings::flannel::backend::types::Error;

/// Refuses a network that is not within the peer's subnets. `said`: the network, as the refusal names it.
pub(super) fn check_inside(lease: &Lease, network: &IpNet, said: impl Display) -> Result<(), Error> {
    let subnets = &lease.subnets;
    if subnets.contains(network) {
        Ok(())
    } else {
        Err(Error::Denied(format!("{said} is not in the peer's subnet, {subnets}")))
    }
}

/// Refuses an address that is not one of the peer's public ones.
pub(super) fn check_published(lease: &Lease, address: IpAddr) -> Result<(), Error> {
    if lease.attributes.public_addresses().any(|public| public == address) {
        Ok(())
    } else {
        Err(Error::Denied(format!("{address} is not an address that the peer has published")))
    }
}
