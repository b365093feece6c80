//! What a policy's capabilities need to know about links at once, while the policy is being called.

use std::net::IpAddr;
use std::path::Path;

use crate::datapath::entry::Mac;
use crate::datapath::wireguard::{Keys, key_file};
use crate::datapath::{DEFAULT_VXLAN_PORT, NetlinkError, Probe};
use crate::lease::model::Attributes;
use crate::node::macs::{Hints, MacBook};
use crate::plugin::{Family, LinkFacts};

/// Answers from the kernel and from the record of MAC addresses.
pub struct Links {
    probe: Probe,
    macs: MacBook,
    external: String,
    published: [Option<Mac>; 2],
}

impl Links {
    /// Whether the record of MAC addresses is enough, so that what this node once published need not be known: it says
    /// something, and no device says otherwise.
    pub fn macs_are_known(state_dir: &Path) -> Result<bool, NetlinkError> {
        let recorded = MacBook::open(state_dir).all();
        let probe = Probe::open()?;
        let agrees = |(device, mac): &(String, Mac)| Ok(probe.mac(device)?.is_none_or(|is| is == *mac));
        let agree = recorded.iter().map(agrees).collect::<Result<Vec<bool>, NetlinkError>>()?;
        Ok(!agree.is_empty() && agree.into_iter().all(|agrees| agrees))
    }

    /// `before`: what this node's lease says, if it has one from before.
    pub fn new(state_dir: &Path, external: &str, before: Option<&Attributes>) -> Result<Self, NetlinkError> {
        let published =
            |data: Option<&Box<serde_json::value::RawValue>>| data.and_then(|d| published_mac(d.get()));
        Ok(Self {
            probe: Probe::open()?,
            macs: MacBook::open(state_dir),
            external: external.to_owned(),
            published: [
                published(before.and_then(|a| a.backend_data.as_ref())),
                published(before.and_then(|a| a.backend_v6_data.as_ref())),
            ],
        })
    }
}

impl LinkFacts for Links {
    fn mac(&self, device: &str, _vni: u32, family: Family) -> Mac {
        let published = match family {
            Family::Ipv4 => self.published[0],
            Family::Ipv6 => self.published[1],
        };
        // A device that cannot be asked for is as good as none: the record and the lease remain.
        let present = self.probe.mac(device).ok().flatten();
        self.macs.choose(device, Hints { published, present })
    }

    fn is_on_link(&self, address: IpAddr) -> Result<bool, String> {
        self.probe.is_on_link(address, &self.external).map_err(|error| error.to_string())
    }

    fn default_vxlan_port(&self) -> u16 {
        DEFAULT_VXLAN_PORT
    }

    fn wireguard_keys(&self) -> Result<Keys, String> {
        Keys::load(&key_file())
    }
}

/// The MAC address that upstream and we publish for a VTEP.
fn published_mac(data: &str) -> Option<Mac> {
    let value: serde_json::Value = serde_json::from_str(data).ok()?;
    value.get("VtepMAC")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vteps_mac_is_found_in_the_published_data() {
        assert_eq!(
            published_mac(r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}"#),
            Some(Mac([2, 0, 0, 0, 0, 1]))
        );
        for other in [r#"{"PublicKey":"x"}"#, "\"text\"", "null", "", r#"{"VtepMAC":1}"#] {
            assert_eq!(published_mac(other), None, "{other}");
        }
    }
}
