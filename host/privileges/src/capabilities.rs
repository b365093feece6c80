//! Capabilities: which ones the process keeps.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// A set of capabilities.
pub type Capabilities = CapabilitySet;

/// What the daemon uses: routes, devices, sysctls and the firewall; iptables' own look at the kernel's tables; health endpoints below port
/// 1024; modules that iptables asks for itself; and keys and credentials that belong to others.
pub const DAEMON: Capabilities = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_MODULE)
    .union(CapabilitySet::DAC_READ_SEARCH);

/// What root needs for files that belong to others.
pub const FILES: Capabilities =
    CapabilitySet::DAC_READ_SEARCH.union(CapabilitySet::DAC_OVERRIDE).union(CapabilitySet::FOWNER);

/// The highest number that a capability may have in the kernel's interface.
const LAST: u32 = 63;

/// Gives up all capabilities but these, for good: of this thread and of all that it starts from now on, and of programs that they run. What
/// it does not have it does not get. Without `CAP_SETPCAP` the bounding set stays, which no_new_privs makes moot.
pub fn give_up_all_but(kept: Capabilities) -> io::Result<()> {
    for number in 0..=LAST {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(one) {
            continue;
        }
        // There is none of this number, or it is not ours to say.
        if matches!(capability_is_in_bounding_set(one), Ok(true)) {
            let _ = remove_capability_from_bounding_set(one);
        }
    }
    let has = capabilities(None)?;
    // What is not permitted and inheritable cannot stay ambient either (capabilities(7)).
    let inheritable = has.inheritable & kept;
    let (effective, permitted) = (has.effective & kept, has.permitted & kept);
    Ok(set_capabilities(None, CapabilitySets { effective, permitted, inheritable })?)
}

/// Those that count for this thread now.
pub fn effective() -> Capabilities {
    capabilities(None).map_or(CapabilitySet::empty(), |has| has.effective)
}
