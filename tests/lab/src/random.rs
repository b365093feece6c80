//! Random numbers that come again: a test that fails says its seed, and with the same seed it does the same.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use anyhow::{Context, Result};

/// What sets the seed.
const VARIABLE: &str = "FLANNEL_LAB_SEED";

/// A source of random numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// With the seed of the environment variable `FLANNEL_LAB_SEED`; where it is not set, another one each time.
    pub fn from_environment() -> Result<Self> {
        let seed = match std::env::var(VARIABLE) {
            Ok(text) => text.parse().with_context(|| format!("{VARIABLE}={text} is no number"))?,
            Err(_) => RandomState::new().build_hasher().finish() % 1_000_000_000,
        };
        Ok(Self::new(seed))
    }

    /// With this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below another one.
    ///
    /// # Panics
    /// If there is none, because the other one is 0.
    pub fn below(&mut self, end: usize) -> usize {
        // The remainder is at most the end, which is a usize.
        usize::try_from(self.next() % end as u64).unwrap_or_default()
    }

    /// One of several.
    ///
    /// # Panics
    /// If there is none.
    pub fn one_of<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.below(of.len())]
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// How to do the same again.
impl fmt::Display for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VARIABLE}={}", self.seed)
    }
}
