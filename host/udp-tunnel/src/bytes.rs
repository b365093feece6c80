//! Fields of packets, in network byte order. Offsets must lie inside the slice: callers have checked the lengths.

/// The 16-bit field at `at`.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The 32-bit field at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writes a 16-bit field.
pub(crate) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Writes a 32-bit field.
pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// The low 16 bits, as fields hold them: lengths of packets (at most 65,535), and the IPv4 identification, which wraps.
#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
pub(crate) fn low16(value: usize) -> u16 {
    value as u16
}

/// The low 32 bits: offsets into buffers below 4 GiB, and TCP sequence numbers, which wrap.
#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
pub(crate) fn low32(value: usize) -> u32 {
    value as u32
}
