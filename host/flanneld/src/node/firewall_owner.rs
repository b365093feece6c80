//! What this daemon's rules are called in the firewall. Upstream's daemons all use the same chains, and ours replaces chains as a whole: where
//! another one runs already this one's have a name of their own, and keep it, so that nobody's rules go when daemons start in another order.

use std::path::Path;

use flannel_firewall::Owner;
use sha2::{Digest, Sha256};
use tracing::warn;

use super::claims::Claims;
use super::record;

const FILE: &str = "firewall.json";

/// What the rules are called, and what else they may have been called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ownership {
    /// Their owner.
    pub owner: Owner,
    /// Those of before, whose rules are left over.
    pub former: Vec<Owner>,
    /// What they are called where an upstream daemon has tables of upstream's names.
    pub beside: Option<Owner>,
}

/// Chooses. `place`: where the leases are, which tells this daemon from others.
pub(crate) fn choose(claims: &Claims, state_dir: &Path, place: &str) -> Ownership {
    let path = state_dir.join(FILE);
    let digest = hex::encode(Sha256::digest(place));
    let own = Owner::of(&digest[..8]);
    let has_own: bool = record::read(&path, "the firewall's names");
    if !has_own && claims.plain_firewall_names() {
        return Ownership { owner: Owner::default(), former: vec![own.clone()], beside: Some(own) };
    }
    if !has_own && let Err(error) = record::write(&path, &true) {
        warn!(file = %path.display(), %error, "it cannot be recorded that the firewall's rules have names of this daemon's own");
    }
    Ownership { owner: own, former: Vec::new(), beside: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_daemon_has_upstreams_names_and_the_second_keeps_its_own() {
        let directory = tempfile::tempdir().expect("directory");
        let state = |name: &str| directory.path().join(name);
        let (first, second) = (Claims::default(), Claims::default());
        assert_eq!(choose(&first, &state("a"), "/a").owner, Owner::default());
        let own = choose(&second, &state("b"), "/b").owner;
        assert_ne!(own, Owner::default());
        drop((first, second));
        let (first, second) = (Claims::default(), Claims::default());
        assert_eq!(choose(&second, &state("b"), "/b").owner, own, "whoever starts first");
        assert_eq!(choose(&first, &state("a"), "/a").owner, Owner::default());
    }
}
