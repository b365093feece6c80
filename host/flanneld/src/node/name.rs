//! What the host calls itself.

/// The host's name (`uname(2)`), as the kernel shows it; empty if it does not.
#[must_use]
pub fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
