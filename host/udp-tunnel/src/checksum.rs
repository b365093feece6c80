//! The Internet checksum (RFC 1071), whole and incremental (RFC 1624).

/// A sum of 16-bit words in ones' complement. It is kept in the byte order of this machine: the sum of swapped words is
/// the swapped sum (RFC 1071, section 2), so nothing is swapped on the way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum(u64);

/// The checksum of some bytes, whose field for it is zero: what is to be in that field.
pub fn internet_checksum(bytes: &[u8]) -> [u8; 2] {
    Sum::default().bytes(bytes).complement()
}

impl Sum {
    /// Adds bytes. What was added before must have had an even length; an odd length here is padded with a zero.
    #[must_use]
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        #[cfg(target_arch = "x86_64")]
        if bytes.len() >= WIDE && std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return self.plus(unsafe { sum_avx2(bytes) });
        }
        self.plus(sum(bytes))
    }

    /// Adds one field, given as the number that it means.
    #[must_use]
    pub(crate) fn word(self, value: u16) -> Self {
        self.plus(u64::from(value.to_be()))
    }

    fn plus(self, value: u64) -> Self {
        let (sum, carry) = self.0.overflowing_add(value);
        Self(sum + u64::from(carry))
    }

    fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap_or(u16::MAX)
    }

    /// Whether the summed bytes, their checksum field among them, are intact.
    pub(crate) fn is_intact(self) -> bool {
        self.fold() == 0xffff
    }

    /// The bytes of the checksum field.
    pub(crate) fn complement(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    /// The bytes of a UDP checksum field, in which zero would mean "none" (RFC 768).
    pub(crate) fn complement_udp(self) -> [u8; 2] {
        match self.complement() {
            [0, 0] => [0xff, 0xff],
            checksum => checksum,
        }
    }

    /// The bytes of a checksum field that somebody later completes by adding what follows (`CHECKSUM_PARTIAL`).
    pub(crate) fn partial(self) -> [u8; 2] {
        self.fold().to_ne_bytes()
    }
}

/// Bytes from which on it pays to ask whether there are wide vectors.
#[cfg(target_arch = "x86_64")]
const WIDE: usize = 128;

/// The same with vectors of 256 bits, which a build for any x86-64 may not use unasked: twice as fast.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(bytes: &[u8]) -> u64 {
    sum(bytes)
}

/// The sum of the bytes as words of 32 bits, in the byte order of this machine; packets are too short for it to overflow.
#[expect(clippy::inline_always, reason = "only inlined it is compiled for its caller's vectors")]
#[inline(always)]
fn sum(bytes: &[u8]) -> u64 {
    // Sixteen lanes of 32 bits in 64: no carry to look after, so the compiler makes vectors of it.
    let mut lanes = [0u64; 16];
    let mut chunks = bytes.chunks_exact(64);
    for chunk in &mut chunks {
        for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(4)) {
            *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
    let mut total = lanes.iter().sum::<u64>();
    let mut words = chunks.remainder().chunks_exact(4);
    for word in &mut words {
        total += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut last = [0; 4];
    let tail = words.remainder();
    last[..tail.len()].copy_from_slice(tail);
    total + u64::from(u32::from_ne_bytes(last))
}

/// The checksum after one of the summed words has changed (RFC 1624, equation 3).
pub(crate) fn adjust(checksum: u16, old: u16, new: u16) -> u16 {
    let mut sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !u16::try_from(sum).unwrap_or(u16::MAX)
}
