//! Devices that take packets by either way: with strict reverse path filtering (`rp_filter` 1) the kernel drops what comes by another device
//! than the one that it would answer by, and a pair of nodes changes its ways one direction after the other. And nodes that answer by the address
//! that they were asked at. What was set before is written down and put back.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use flannel_base::atomic_file::{self, Mode};
use flannel_base::regular_file;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

const SYSCTLS: &str = "/proc/sys/net/ipv4/conf";
/// A node's first IPv6 address, the subnet's own, is also what each router of the subnet has (RFC 4291, 2.6.1): the bridge of the pods has it as an
/// anycast address, and which of both a packet is for depends on which was there first. To what comes for an anycast address the kernel answers
/// with any other source, unless this is 1 (`icmpv6_echo_reply`): a probe would not find its answer.
const ANYCAST_REPLY: &str = "/proc/sys/net/ipv6/anycast_src_echo_reply";
/// More than the record has.
const MAX_BYTES: u64 = 1 << 16;

/// What was changed, as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    /// By interface, what its `rp_filter` was.
    rp_filter: BTreeMap<String, String>,
    /// Whether `anycast_src_echo_reply` was 0, and was changed.
    anycast_reply: bool,
    /// Addresses of the loopback interface that are ours.
    addresses: BTreeSet<IpNet>,
}

/// What was changed of things that are not ours.
pub(crate) struct LoosePaths {
    file: Option<PathBuf>,
    record: Record,
    complained: bool,
    complained_of_reply: bool,
}

impl LoosePaths {
    /// As it was written down, if it was. Without a file it is forgotten when the process ends.
    pub(crate) fn open(file: Option<PathBuf>) -> Self {
        let written = file.as_deref().map(|file| regular_file::read(file, MAX_BYTES));
        let record = match written {
            Some(Ok(bytes)) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Some(Err(_)) | None => Record::default(),
        };
        Self { file, record, complained: false, complained_of_reply: false }
    }

    /// The addresses that were added.
    pub(super) fn addresses(&self) -> BTreeSet<IpNet> {
        self.record.addresses.clone()
    }

    /// These are added.
    pub(super) fn note_addresses(&mut self, addresses: &BTreeSet<IpNet>) {
        if !addresses.is_subset(&self.record.addresses) {
            self.record.addresses.extend(addresses.iter().copied());
            self.write();
        }
    }

    /// Makes devices take packets by either way, where they do not.
    pub(super) fn loosen(&mut self, devices: &[String]) {
        let all = value("all");
        for device in devices {
            // The stricter of both counts (Documentation/networking/ip-sysctl.rst), and 2, which is loose, is more than 1.
            let Some(own) = value(device) else { continue };
            if all.as_deref().unwrap_or("0").max(&own) != "1" {
                continue;
            }
            // What was there is on the disk before it is changed.
            self.record.rp_filter.entry(device.clone()).or_insert(own);
            self.write();
            match std::fs::write(path(device), "2") {
                Ok(()) => info!(device, "rp_filter is loose (2) as long as the backend changes"),
                Err(error) => {
                    // Who sets it by hand means it, and finds it so afterwards.
                    self.record.rp_filter.remove(device);
                    self.write();
                    if !std::mem::replace(&mut self.complained, true) {
                        warn!(
                            device, %error,
                            "net.ipv4.conf.{device}.rp_filter cannot be set to 2: packets that come by another way than ours go are dropped; set it by hand"
                        );
                    }
                }
            }
        }
    }

    /// Makes the node answer by its own address in an IPv6 subnet, whoever else has it.
    pub(super) fn answer_as_asked(&mut self) {
        if read(ANYCAST_REPLY).as_deref() != Some("0") {
            return;
        }
        self.record.anycast_reply = true;
        self.write();
        match std::fs::write(ANYCAST_REPLY, "1") {
            Ok(()) => info!("anycast_src_echo_reply is 1 as long as the backend changes"),
            Err(error) => {
                self.record.anycast_reply = false;
                self.write();
                if !std::mem::replace(&mut self.complained_of_reply, true) {
                    warn!(
                        %error,
                        "net.ipv6.anycast_src_echo_reply cannot be set to 1: peers may not find this node by IPv6, and stay with the backend before; set it by hand"
                    );
                }
            }
        }
    }

    /// Whether settings are otherwise than they were.
    pub(super) fn has_settings(&self) -> bool {
        !self.record.rp_filter.is_empty() || self.record.anycast_reply
    }

    /// The addresses are gone.
    pub(super) fn forget_addresses(&mut self) {
        if !std::mem::take(&mut self.record.addresses).is_empty() {
            self.write();
        }
    }

    /// Puts all back as it was.
    pub(super) fn restore(&mut self) {
        for (device, before) in std::mem::take(&mut self.record.rp_filter) {
            // Who has set something else meanwhile means it.
            if value(&device).as_deref() == Some("2")
                && let Err(error) = std::fs::write(path(&device), &before)
            {
                warn!(device, %error, "net.ipv4.conf.{device}.rp_filter cannot be set back to {before}");
            }
        }
        if self.record.anycast_reply
            && read(ANYCAST_REPLY).as_deref() == Some("1")
            && let Err(error) = std::fs::write(ANYCAST_REPLY, "0")
        {
            warn!(%error, "net.ipv6.anycast_src_echo_reply cannot be set back to 0");
        }
        self.record = Record::default();
        if let Some(file) = &self.file
            && let Err(error) = std::fs::remove_file(file)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(file = %file.display(), %error, "a record that is needed no more cannot be removed");
        }
    }

    fn write(&self) {
        let Some(file) = &self.file else { return };
        let written = serde_json::to_vec(&self.record).map_err(io::Error::from);
        if let Err(error) = written.and_then(|bytes| atomic_file::replace(file, &bytes, Mode::Exactly(0o600)))
        {
            warn!(file = %file.display(), %error, "what a change of the backend changes cannot be written down");
        }
    }
}

fn path(device: &str) -> PathBuf {
    Path::new(SYSCTLS).join(device).join("rp_filter")
}

fn value(device: &str) -> Option<String> {
    read(path(device))
}

fn read(setting: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(setting).ok().map(|text| text.trim().to_owned())
}
