//! Longest-prefix match by one hash table for each prefix length that occurs. All peers of a cluster have subnets of the
//! same length, so that a lookup is one probe, however many peers there are.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::BitAnd;

/// An address as a number.
pub(crate) trait Bits: Copy + Eq + Hash + BitAnd<Output = Self> {
    /// The mask of a prefix of so many bits; more than there are count as all.
    fn mask(length: u8) -> Self;
}

impl Bits for u32 {
    fn mask(length: u8) -> Self {
        Self::MAX.checked_shl(32u32.saturating_sub(u32::from(length))).unwrap_or(0)
    }
}

impl Bits for u128 {
    fn mask(length: u8) -> Self {
        Self::MAX.checked_shl(128u32.saturating_sub(u32::from(length))).unwrap_or(0)
    }
}

/// A multiplicative hash. The keys come from the cluster's configuration and not from packets, so that the strength
/// (and the cost) of the standard hasher is not needed.
#[derive(Default)]
pub(crate) struct PrefixHasher(u64);

impl PrefixHasher {
    fn mix(&mut self, value: u64) {
        // 2^64 divided by the golden ratio, as in Fibonacci hashing; the halves are swapped because the table takes
        // its bucket from the low bits, which a multiplication mixes least.
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

impl Hasher for PrefixHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_ne_bytes(word));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }
}

#[derive(Clone)]
struct Level<K> {
    length: u8,
    mask: K,
    entries: HashMap<K, u32, BuildHasherDefault<PrefixHasher>>,
}

/// Prefixes and the number that each leads to.
#[derive(Clone)]
pub(crate) struct Table<K> {
    /// The longest first; none is empty.
    levels: Vec<Level<K>>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { levels: Vec::new() }
    }
}

impl<K: Bits> Table<K> {
    /// What the longest prefix that contains `address` leads to.
    pub(crate) fn find(&self, address: K) -> Option<u32> {
        self.levels.iter().find_map(|level| level.entries.get(&(address & level.mask)).copied())
    }

    /// What exactly this prefix leads to.
    pub(crate) fn get(&self, prefix: K, length: u8) -> Option<u32> {
        let level = self.levels.iter().find(|level| level.length == length)?;
        level.entries.get(&(prefix & level.mask)).copied()
    }

    /// Adds a prefix, or changes what it leads to.
    pub(crate) fn insert(&mut self, prefix: K, length: u8, value: u32) {
        let at = self.levels.partition_point(|level| level.length > length);
        if self.levels.get(at).is_none_or(|level| level.length != length) {
            self.levels.insert(at, Level { length, mask: K::mask(length), entries: HashMap::default() });
        }
        let level = &mut self.levels[at];
        level.entries.insert(prefix & level.mask, value);
    }

    /// Removes a prefix.
    pub(crate) fn remove(&mut self, prefix: K, length: u8) {
        if let Some(level) = self.levels.iter_mut().find(|level| level.length == length) {
            level.entries.remove(&(prefix & level.mask));
        }
        self.levels.retain(|level| !level.entries.is_empty());
    }
}
