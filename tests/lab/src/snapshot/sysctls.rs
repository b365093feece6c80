//! What the kernel is set to do with packets, for each device: a change that is forgotten there loses packets later, and shows nowhere else.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::Namespace;

/// Below `/proc/sys/net`: directories with one for each device, and for those to come.
const OF_DEVICES: [&str; 3] = ["ipv4/conf", "ipv6/conf", "ipv4/neigh"];
/// There too, of the whole namespace.
const OF_ALL: &str = "ipv6/anycast_src_echo_reply";
/// One that can be read only once it is set.
const SECRET: &str = "stable_secret";
/// One that the kernel's WireGuard sets to 0 for all when a device of its kind is set up, and never back (`wg_open`).
const WIREGUARDS: (&str, &str) = ("all", "send_redirects");

/// Lines such as `ipv4/conf/eth0/rp_filter 2`, of devices that somebody wants, `all` and `default`.
pub fn read(namespace: &Namespace, wants: impl Fn(&str) -> bool + Sync) -> Result<Vec<String>> {
    // Which namespace is meant decides who opens the files.
    namespace.run(|| {
        let mut lines = Vec::new();
        for directory in OF_DEVICES {
            let top = Path::new("/proc/sys/net").join(directory);
            for device in names(&top)?.iter().filter(|device| wants(device)) {
                for setting in names(&top.join(device))?.iter().filter(|name| *name != SECRET) {
                    if (device.as_str(), setting.as_str()) == WIREGUARDS {
                        continue;
                    }
                    let file = top.join(device).join(setting);
                    // A device may go meanwhile.
                    let value = fs::read_to_string(&file).unwrap_or_else(|error| error.to_string());
                    lines.push(format!("{directory}/{device}/{setting} {}", value.trim()));
                }
            }
        }
        let of_all = fs::read_to_string(Path::new("/proc/sys/net").join(OF_ALL)).unwrap_or_default();
        lines.push(format!("{OF_ALL} {}", of_all.trim()));
        lines.sort_unstable();
        Ok(lines)
    })?
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
