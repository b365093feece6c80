//! What nobody gets to see.

use std::fmt;
use std::hash::{Hash, Hasher};

use zeroize::{Zeroize, Zeroizing};

/// A value that is neither shown nor left behind in memory: it is overwritten when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes a value over.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value, for those alone whom it is meant for.
    pub fn reveal(&self) -> &T {
        &self.0
    }

    /// The value, for whoever makes it.
    pub fn reveal_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Zeroize + Hash> Hash for Secret<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.reveal().hash(state);
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(
            format!("{:?} {:?}", Secret::new("text".to_owned()), Secret::new([7_u8; 32])),
            "(hidden) (hidden)"
        );
    }
}
