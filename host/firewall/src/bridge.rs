//! Whether packets between the pods of one bridge pass through iptables.

use std::path::Path;

/// Where the module's switches are.
const SWITCHES: &str = "/proc/sys/net/bridge";

/// One line of warning if `br_netfilter` is not there for the families in use, and nothing if it is. Without it, packets that
/// a bridge passes from pod to pod are not seen by iptables: a service's answer from a pod on the same node comes from the
/// wrong address. Whether the switches are on is the administrator's choice, as it is with upstream.
pub fn bridge_netfilter_missing(ipv4: bool, ipv6: bool) -> Option<String> {
    missing_below(Path::new(SWITCHES), ipv4, ipv6)
}

pub(super) fn missing_below(switches: &Path, ipv4: bool, ipv6: bool) -> Option<String> {
    let missing: Vec<String> = [(ipv4, "bridge-nf-call-iptables"), (ipv6, "bridge-nf-call-ip6tables")]
        .into_iter()
        .filter(|(used, _)| *used)
        .map(|(_, name)| switches.join(name))
        .filter(|path| !path.exists())
        .map(|path| path.display().to_string())
        .collect();
    if missing.is_empty() {
        return None;
    }
    Some(format!(
        "{} {} not there: packets between pods on the same bridge do not pass through iptables, which services need; \
         `modprobe br_netfilter` loads what is missing",
        missing.join(" and "),
        if missing.len() == 1 { "is" } else { "are" },
    ))
}
