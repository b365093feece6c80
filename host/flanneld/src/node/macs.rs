//! The Ethernet addresses of our devices: chosen once, and kept over restarts and reboots, since every peer knows them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use flannel_model::entry::Mac;
use tracing::{info, warn};

use super::record;

const FILE: &str = "macs.json";

/// What is known of a device's address besides our own record.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hints {
    /// What this node published in its lease.
    pub published: Option<Mac>,
    /// What the device of that name has in the kernel.
    pub present: Option<Mac>,
}

/// The record: a JSON object in the state directory, from device name to address.
pub(crate) struct MacStore {
    path: PathBuf,
    known: Mutex<BTreeMap<String, String>>,
}

impl MacStore {
    /// Reads the record. One that cannot be read is as good as none, with a warning.
    pub(crate) fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let known = record::read(&path, "MAC addresses");
        Self { path, known: Mutex::new(known) }
    }

    /// All that is recorded.
    pub(crate) fn all(&self) -> Vec<(String, Mac)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter_map(|(device, text)| Some((device.clone(), text.parse().ok()?))).collect()
    }

    /// The address for a device. What the peers use now comes first: a device that has the published address keeps it,
    /// whatever the record says. Then the record, the lease, the device, and at last chance. What is `avoided` is another node's.
    pub(crate) fn choose(&self, device: &str, hints: Hints, avoided: impl Fn(&Mac) -> bool) -> Mac {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let recorded = known.get(device).and_then(|text| text.parse().ok());
        let in_use = hints.published.filter(|mac| hints.present == Some(*mac));
        let usable = |mac: &Mac| mac.0[0] & 1 == 0 && mac.0 != [0; 6] && !avoided(mac);
        let kept = [in_use, recorded, hints.published, hints.present].into_iter().flatten().find(usable);
        let mac = kept.unwrap_or_else(random);
        if recorded != Some(mac) {
            known.insert(device.to_owned(), mac.to_string());
            if let Err(error) = record::write(&self.path, &*known) {
                warn!(file = %self.path.display(), %error, "the MAC address of {device} cannot be recorded: it may change at the next reboot");
            }
            info!(device, %mac, kept = kept.is_some(), "MAC address chosen");
        }
        mac
    }
}

/// A random unicast address, marked as locally administered (IEEE 802, the second bit of the first octet).
fn random() -> Mac {
    let mut octets = [0; 6];
    if getrandom::fill(&mut octets).is_err() {
        // No kernel that this runs on is without randomness; the process's number and the time differ between nodes.
        let seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos())
            ^ (u128::from(std::process::id()) << 32);
        octets.copy_from_slice(&seed.to_le_bytes()[..6]);
    }
    octets[0] = (octets[0] & 0xfe) | 0x02;
    Mac(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn an_address_is_chosen_once() {
        let dir = tempfile::tempdir().expect("directory");
        let chosen = MacStore::open(dir.path()).choose("flannel.1", Hints::default(), |_| false);
        assert_eq!(chosen.0[0] & 3, 2, "unicast and locally administered");
        assert_eq!(MacStore::open(dir.path()).choose("flannel.1", Hints::default(), |_| false), chosen);
        assert_ne!(MacStore::open(dir.path()).choose("flannel-v6.1", Hints::default(), |_| false), chosen);
    }

    #[test]
    fn what_the_peers_use_now_counts_more_than_the_record() {
        let dir = tempfile::tempdir().expect("directory");
        let book = MacStore::open(dir.path());
        book.choose("flannel.1", Hints { published: Some(mac(1)), present: None }, |_| false);
        let in_use = Hints { published: Some(mac(2)), present: Some(mac(2)) };
        assert_eq!(book.choose("flannel.1", in_use, |_| false), mac(2));
    }

    #[test]
    fn an_address_that_something_else_gave_the_device_does_not_stay() {
        let dir = tempfile::tempdir().expect("directory");
        let book = MacStore::open(dir.path());
        book.choose("flannel.1", Hints { published: Some(mac(1)), present: None }, |_| false);
        let rewritten = Hints { published: Some(mac(1)), present: Some(mac(9)) };
        assert_eq!(book.choose("flannel.1", rewritten, |_| false), mac(1));
    }

    #[test]
    fn a_damaged_record_is_replaced() {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::write(dir.path().join(FILE), "{").expect("written");
        let chosen = MacStore::open(dir.path()).choose("flannel.1", Hints::default(), |_| false);
        assert_eq!(MacStore::open(dir.path()).choose("flannel.1", Hints::default(), |_| false), chosen);
    }

    #[test]
    fn an_address_that_another_node_has_is_given_up_for_good() {
        let dir = tempfile::tempdir().expect("directory");
        let book = MacStore::open(dir.path());
        let hints = Hints { published: Some(mac(1)), present: Some(mac(1)) };
        assert_eq!(book.choose("flannel.1", hints, |_| false), mac(1));
        let new = book.choose("flannel.1", hints, |avoided| *avoided == mac(1));
        assert_ne!(new, mac(1));
        // The lease still says the old one when the next run begins.
        let hints = Hints { published: Some(mac(1)), present: Some(new) };
        assert_eq!(MacStore::open(dir.path()).choose("flannel.1", hints, |_| false), new);
    }
}
