//! What makes a tunnel fast, where the kernel has it.

/// Which offloads to use, or which are in use. What the kernel lacks is left out without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// Super-packets of up to 64 KiB and unfinished checksums between the kernel and us, both ways, on the TUN device.
    pub tso: bool,
    /// Many datagrams in one call to send (`UDP_SEGMENT`).
    pub gso: bool,
    /// Many datagrams in one buffer received (`UDP_GRO`).
    pub gro: bool,
}

impl Offloads {
    /// All that there are.
    pub const ALL: Self = Self { tso: true, gso: true, gro: true };
    /// None.
    pub const NONE: Self = Self { tso: false, gso: false, gro: false };
}

impl Default for Offloads {
    fn default() -> Self {
        Self::ALL
    }
}
