//! What is known of this node besides its addresses.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many labels a plugin is told.
const MOST_LABELS: usize = 4096;
/// Bytes of their names and values.
const LABEL_BYTES: usize = 64 << 10;

/// Which node this is, and what its operator says of it.
#[derive(Debug, Default)]
pub struct NodeInfo {
    /// What it is called.
    pub name: String,
    /// What plugins are told of it alone: `--plugin-option`.
    pub options: BTreeMap<String, String>,
    labels: Mutex<BTreeMap<String, String>>,
    /// How often they have changed.
    version: AtomicU64,
}

impl NodeInfo {
    /// Of a node without labels.
    pub fn new(name: String, options: BTreeMap<String, String>) -> Self {
        Self { name, options, ..Self::default() }
    }

    /// The node has these labels now. Answers whether it had others.
    pub fn set_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let mut bytes = 0;
        let told = labels.iter().take(MOST_LABELS).take_while(|(name, value)| {
            bytes += name.len() + value.len();
            bytes <= LABEL_BYTES
        });
        let told = told.map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut known = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = *known != told;
        *known = told;
        self.version.fetch_add(u64::from(is_other), Ordering::AcqRel);
        is_other
    }

    /// Another number whenever anything has changed.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Its labels, by name.
    pub fn labels(&self) -> Vec<(String, String)> {
        let known = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_beyond_the_limit_are_left_out_and_the_same_ones_are_no_change() {
        let info = NodeInfo::default();
        let long = "v".repeat(LABEL_BYTES / 2);
        let labels = ["a", "b", "c"].map(|name| (name.to_owned(), long.clone())).into();
        assert!(info.set_labels(&labels));
        assert_eq!(info.labels().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a"]);
        assert!(!info.set_labels(&labels));
        let many = (0..2 * MOST_LABELS).map(|index| (format!("{index:04}"), "v".to_owned())).collect();
        assert!(info.set_labels(&many));
        assert_eq!(info.labels().len(), MOST_LABELS);
        assert!(info.set_labels(&BTreeMap::new()));
    }
}
