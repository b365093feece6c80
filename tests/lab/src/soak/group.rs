//! Which faults overlap, and for how long.

use std::time::Duration;

use super::faults::{self, Area, Kind};
use super::setting::Setting;
use crate::random::Random;

/// How many faults there are at once, at most.
const MOST: usize = 3;
/// How often is tried to find another fault that may overlap with those that are chosen.
const TRIES: usize = 8;

/// Whether there is any fault in a setting.
pub fn is_there_any(setting: &Setting) -> bool {
    faults::all().any(|kind| is_wanted(kind, setting))
}

/// Chooses faults with their nodes. There has to be one to choose from.
pub fn choose(random: &mut Random, setting: &Setting) -> Vec<(&'static Kind, usize)> {
    let kinds: Vec<&'static Kind> = faults::all().filter(|kind| is_wanted(kind, setting)).collect();
    let mut group: Vec<(&'static Kind, usize)> = Vec::new();
    // Where something happens anyway, it happens without a fault, too.
    let least = usize::from(setting.changing.is_empty());
    let count = least + random.below(MOST);
    for _ in 0..TRIES {
        if group.len() == count {
            break;
        }
        let (kind, node) = (*random.one_of(&kinds), random.below(setting.nodes));
        let fits = |other: &(&'static Kind, usize)| may_overlap((kind.area, node), (other.0.area, other.1));
        if group.iter().all(fits) {
            group.push((kind, node));
        }
    }
    group
}

fn is_wanted(kind: &Kind, setting: &Setting) -> bool {
    let named = setting.only.is_empty() || setting.only.iter().any(|word| kind.name.contains(word.as_str()));
    named && (kind.fits)(setting)
}

/// Whether both can be made, and healed, without asking in which order.
fn may_overlap(one: (Area, usize), other: (Area, usize)) -> bool {
    use Area::{Alone, Control, Daemon, Leases, Node, Store};
    match (one.0, other.0) {
        // Leases are written to a store that answers, and what is written in two ways cannot be taken back in any order. Who is asked
        // for something has to have a store, too.
        (Alone, _) | (_, Alone) | (Leases | Store, Leases | Store) | (Control, Store) | (Store, Control) => {
            false
        }
        (Control, _) | (_, Control) | (Node, Node) | (Daemon, Daemon) => one.1 != other.1,
        (Leases | Store, _) | (_, Leases | Store) | (Node, Daemon) | (Daemon, Node) => true,
    }
}

/// How long a fault lasts: mostly short, sometimes as long as deadlines and retries take.
pub fn pause(random: &mut Random, longest: Duration) -> Duration {
    let millis = if random.below(6) == 0 { 4_000 + random.below(9_000) } else { random.below(2_500) };
    Duration::from_millis(millis as u64).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_may_be_away_while_something_happens_to_its_node() {
        assert!(may_overlap((Area::Daemon, 1), (Area::Node, 1)));
        assert!(!may_overlap((Area::Node, 1), (Area::Node, 1)));
        assert!(may_overlap((Area::Node, 1), (Area::Node, 2)));
    }

    #[test]
    fn nobody_writes_leases_to_a_store_that_is_away() {
        assert!(!may_overlap((Area::Leases, 1), (Area::Store, 2)));
        assert!(may_overlap((Area::Store, 1), (Area::Daemon, 1)));
        assert!(!may_overlap((Area::Control, 1), (Area::Store, 2)));
    }

    #[test]
    fn a_pause_is_never_longer_than_it_may_be() {
        let mut random = Random::new(7);
        let longest = Duration::from_secs(3);
        assert!((0..100).all(|_| pause(&mut random, longest) <= longest));
    }
}
