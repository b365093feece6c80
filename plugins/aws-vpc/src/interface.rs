//! This node's network interface: which one it is, and its source/destination check.

use std::net::IpAddr;

use flannel_backend::cloud::{Instance, NetworkInterface};
use flannel_backend::{ExternalInterface, log};

use crate::api::{Ec2, Error};

/// The network interface that has the external interface's own address.
pub fn find<'a>(me: &'a Instance, external: &ExternalInterface) -> Result<&'a NetworkInterface, String> {
    let own = external.ipv4.map(IpAddr::from).or(external.ipv6.map(IpAddr::from));
    let own = own.ok_or_else(|| format!("{} has no address of its own", external.name))?;
    let found = me.interfaces.iter().find(|interface| interface.addresses.contains(&own));
    found.filter(|interface| !interface.id.is_empty()).ok_or_else(|| {
        let there = me.interfaces.iter().map(|interface| {
            let addresses: Vec<String> = interface.addresses.iter().map(IpAddr::to_string).collect();
            format!("{} ({})", interface.id, addresses.join(", "))
        });
        let there: Vec<String> = there.collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        format!(
            "no network interface of instance {} has the address {own} of {}; there are: {there}. Name another one with --iface",
            me.id, external.name
        )
    })
}

/// The check of source and destination: as long as it is on, EC2 drops what pods send and get.
#[derive(Default)]
pub struct Check {
    /// What the operator has been told of, so as not to repeat it at each tick.
    warned: Option<String>,
}

impl Check {
    /// Turns it off, where it is on. Answers whether that was so. Somebody else may see to it, so that routes are made in any case.
    pub fn turn_off(&mut self, ec2: &mut Ec2, interface: &str) -> bool {
        match Self::ensure(ec2, interface) {
            Ok(changed) => {
                self.warned = None;
                changed
            }
            Err(error) => {
                let reason = String::from(error);
                if self.warned.as_ref() != Some(&reason) {
                    log::warn(
                        "the source/destination check must be off, and may be on: turn it off by hand, or allow flanneld to do it",
                        &[("interface", interface), ("reason", &reason)],
                    );
                    self.warned = Some(reason);
                }
                false
            }
        }
    }

    fn ensure(ec2: &mut Ec2, interface: &str) -> Result<bool, Error> {
        if !ec2.is_checked(interface)? {
            return Ok(false);
        }
        ec2.uncheck(interface)?;
        log::info("source/destination check turned off", &[("interface", interface)]);
        Ok(true)
    }
}
