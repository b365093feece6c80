//! Moments in a change of the backend, to have something happen then.

use anyhow::{Context, Result};
use serde_json::Value;

use super::{GENERATIONS, describe};
use crate::{Cluster, wait};

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The network config has been written, and nobody has read it yet.
    Written,
    /// The node has published that it serves the new backend, too.
    Published,
    /// It reaches some peer by the new backend.
    Moving,
    /// It has published the new backend as its main one.
    Main,
    /// It gives up the former one.
    Retiring,
    /// It has published that it has no other any more, and is about to remove what there is of it.
    Told,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Written, Self::Published, Self::Moving, Self::Main, Self::Retiring, Self::Told];

    /// Waits until a node has come as far, or farther, in a change that has just been written. Short ones may have passed.
    pub fn wait(self, cluster: &Cluster, index: usize) -> Result<()> {
        if self == Self::Written {
            return Ok(());
        }
        let what = format!("{} is at {self:?}", cluster.node(index).name());
        let mut has_begun = false;
        let reached = wait::until_true(&what, || {
            let published = cluster.lease(index)?.value.contains(GENERATIONS);
            let change = cluster.status(index)?["change"].clone();
            has_begun |= published || !change.is_null();
            let is_over = has_begun && !published && change.is_null();
            Ok(is_over || self <= Self::of(&change, published))
        });
        reached.map(drop).with_context(|| describe(cluster))
    }

    fn of(change: &Value, published: bool) -> Self {
        match change["phase"].as_str() {
            Some("retiring") if !published => Self::Told,
            Some("retiring") => Self::Retiring,
            Some("main") => Self::Main,
            Some("moved") => Self::Moving,
            Some("moving") if change["moved"].as_u64() > Some(0) => Self::Moving,
            _ if published => Self::Published,
            _ => Self::Written,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn moments_are_told_by_the_phase_and_by_the_peers_that_have_moved() {
        let of = |phase: &str, moved: u64| Moment::of(&json!({"phase": phase, "moved": moved}), true);
        assert_eq!(Moment::of(&Value::Null, false), Moment::Written);
        assert_eq!(of("moving", 0), Moment::Published);
        assert_eq!(of("moving", 1), Moment::Moving);
        assert_eq!(of("main", 2), Moment::Main);
        assert!(of("retiring", 2) > of("moved", 2));
        assert_eq!(Moment::of(&json!({"phase": "retiring", "moved": 2}), false), Moment::Told);
    }
}
