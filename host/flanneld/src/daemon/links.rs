//! What a policy's capabilities need to know about links at once, while the policy is being called.

use std::net::IpAddr;
use std::path::Path;

use flannel_datapath::ipsec::KeyRing;
use flannel_datapath::wireguard::KeyFiles;
use flannel_datapath::{NetlinkError, Probe};
use flannel_model::entry::DEFAULT_VXLAN_PORT;
use flannel_model::entry::Mac;
use flannel_model::lease::Attributes;
use flannel_model::lease_key::{LeaseKey, vtep_mac, wireguard_key};
use flannel_model::wireguard::{Keys, PublicKey};
use flannel_plugin_host::{Family, LinkFacts, Uplink};
use flannel_privileges::with_privileges;

use crate::node::macs::{Hints, MacStore};
use crate::node::uplinks;

/// The devices that upstream's and our own policy for WireGuard make.
const WIREGUARD_DEVICES: [&str; 2] = ["flannel-wg", "flannel-wg-v6"];

/// Answers from the kernel, from the record of MAC addresses, and from the file of the WireGuard key.
pub(super) struct Links {
    probe: Probe,
    macs: MacStore,
    external: String,
    uplinks: Vec<String>,
    published: [Option<Mac>; 2],
    key_files: KeyFiles,
    published_keys: Vec<PublicKey>,
    avoid: Vec<LeaseKey>,
    ipsec: KeyRing,
}

/// What a lease says of its node's key for IPsec, with whatever backend of those that it has.
pub(super) fn ipsec_keys(lease: &Attributes) -> Vec<PublicKey> {
    let main = (lease.backend_type.as_str(), &lease.backend_data, &lease.backend_v6_data);
    let others = lease
        .generations
        .iter()
        .map(|one| (one.backend_type.as_str(), &one.backend_data, &one.backend_v6_data));
    let ipsec = std::iter::once(main).chain(others).filter(|(backend, ..)| *backend == "ipsec");
    ipsec.flat_map(|(_, v4, v6)| v4.iter().chain(v6)).filter_map(|data| wireguard_key(data)).collect()
}

impl Links {
    /// Whether the state directory says enough, so that what this node once published need not be known: it has MAC addresses,
    /// no device has others, and there is no WireGuard key elsewhere.
    pub(super) fn state_is_enough(state_dir: &Path) -> Result<bool, NetlinkError> {
        Ok(Self::macs_are_known(state_dir)? && !KeyFiles::of(state_dir).is_undecided())
    }

    fn macs_are_known(state_dir: &Path) -> Result<bool, NetlinkError> {
        let recorded = MacStore::open(state_dir).all();
        let probe = Probe::open()?;
        let agrees = |(device, mac): &(String, Mac)| Ok(probe.vtep_mac(device)?.is_none_or(|is| is == *mac));
        let agree = recorded.iter().map(agrees).collect::<Result<Vec<bool>, NetlinkError>>()?;
        Ok(!agree.is_empty() && agree.into_iter().all(|agrees| agrees))
    }

    /// `uplinks`: the interfaces that plugins may use besides. `before`: what this node's lease says, if it has one from before. `avoid`: what it must not be known by, since others are.
    pub(super) fn new(
        state_dir: &Path,
        (external, uplinks): (&str, Vec<String>),
        before: Option<&Attributes>,
        avoid: Vec<LeaseKey>,
        ipsec: KeyRing,
    ) -> Result<Self, NetlinkError> {
        // Peers go on with that until they are told of another one.
        if let Some(key) = before.and_then(|lease| ipsec_keys(lease).into_iter().next()) {
            ipsec.know_before(key);
        }
        let data = [
            before.and_then(|lease| lease.backend_data.as_deref()),
            before.and_then(|lease| lease.backend_v6_data.as_deref()),
        ];
        Ok(Self {
            probe: Probe::open()?,
            macs: MacStore::open(state_dir),
            external: external.to_owned(),
            uplinks,
            published: data.map(|data| data.and_then(vtep_mac)),
            key_files: KeyFiles::of(state_dir),
            published_keys: data.into_iter().flatten().filter_map(wireguard_key).collect(),
            avoid,
            ipsec,
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
        let present = self.probe.vtep_mac(device).ok().flatten();
        let avoided = |mac: &Mac| self.avoid.contains(&LeaseKey::VtepMac { family, mac: *mac });
        with_privileges(|| self.macs.choose(device, Hints { published, present }, avoided))
    }

    fn is_on_link(&self, address: IpAddr) -> Result<bool, String> {
        self.probe.is_on_link(address, &self.external).map_err(|error| error.to_string())
    }

    fn default_vxlan_port(&self) -> u16 {
        DEFAULT_VXLAN_PORT
    }

    fn uplinks(&self) -> Result<Vec<Uplink>, String> {
        uplinks::look_at(&self.probe, &self.uplinks)
    }

    fn wireguard_keys(&self) -> Result<Keys, String> {
        // What a device cannot be asked is as good as none: the lease and the files remain.
        let present = |device| self.probe.wireguard_key(device).ok().flatten();
        let devices = WIREGUARD_DEVICES.into_iter().filter_map(present);
        let in_use: Vec<PublicKey> = self.published_keys.iter().copied().chain(devices).collect();
        let avoided = |key: &PublicKey| self.avoid.contains(&LeaseKey::Wireguard(*key));
        with_privileges(|| self.key_files.choose(&in_use, avoided))
    }

    fn ipsec_key(&self) -> Result<PublicKey, String> {
        self.ipsec.published()
    }
}
