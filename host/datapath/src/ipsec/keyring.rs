//! This node's own keys for IPsec: one that peers are told of, one that is about to take its place, and those that some peers may still use.
//!
//! They live in memory alone: whoever gets hold of the preshared key later, and of a node's disk, still cannot read what was recorded before.
//! A daemon that starts anew begins with another key, and goes on with what the kernel has until the peers know it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flannel_model::wireguard::{PublicKey, SecretKey};

/// For so long a key that another one has taken the place of is good for peers that come up meanwhile, and have heard of it alone.
const LEFTOVER: Duration = Duration::from_mins(10);
/// Another key does not take its place sooner than this.
const LEAST_AGE: Duration = Duration::from_secs(5);

/// A key of this node.
#[derive(Clone)]
pub(crate) struct OwnKey {
    /// What peers know it by.
    pub public: PublicKey,
    private: SecretKey,
    /// When it began to be used.
    since: Instant,
}

impl OwnKey {
    fn generate(now: Instant) -> Result<Self, String> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| format!("no random numbers for an IPsec key: {error}"))?;
        let private = SecretKey::from_bytes(bytes);
        let public = flannel_model::wireguard::Keys::of(private.clone()).public;
        Ok(Self { public, private, since: now })
    }

    /// What it has in common with a peer's (RFC 7748, section 6.1). None: the peer's is no key, but one of the points that make the result
    /// the same whatever one's own key is.
    pub(super) fn agree(&self, peer: &PublicKey) -> Option<SecretKey> {
        let own = x25519_dalek::StaticSecret::from(self.private.bytes());
        let shared = own.diffie_hellman(&x25519_dalek::PublicKey::from(peer.0));
        shared.was_contributory().then(|| SecretKey::from_bytes(shared.to_bytes()))
    }
}

#[derive(Default)]
struct Keys {
    current: Option<OwnKey>,
    next: Option<OwnKey>,
    /// The last one before, and when it ended.
    previous: Option<(OwnKey, Instant)>,
    /// What peers are told instead, as long as not all that they need is in place for the current one.
    held: Option<PublicKey>,
    /// What the lease store has been told.
    stored: Option<(PublicKey, Instant)>,
}

/// The node's keys, for the policy's capability, the reconciler and whoever writes the lease.
#[derive(Clone, Default)]
pub struct KeyRing(Arc<Mutex<Keys>>);

impl KeyRing {
    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What peers are to be told of: the key that they can use now. Makes one if there is none yet.
    pub fn published(&self) -> Result<PublicKey, String> {
        let mut keys = self.lock();
        if keys.current.is_none() {
            keys.current = Some(OwnKey::generate(Instant::now())?);
        }
        let current = keys.current.as_ref().map(|key| key.public);
        keys.held.or(current).ok_or_else(|| "there is no IPsec key".to_owned())
    }

    /// Peers know this node by this key. One of an earlier run is gone, but what the kernel has for it goes on working: peers are told of
    /// another one when all is in place for it.
    pub fn know_before(&self, published: PublicKey) {
        let mut keys = self.lock();
        let previous = keys.previous.as_ref().map(|(key, _)| key);
        if !keys.next.iter().chain(&keys.current).chain(previous).any(|key| key.public == published) {
            keys.held = Some(published);
        }
    }

    /// All that peers need for the current key is in place.
    pub(crate) fn release(&self) {
        self.lock().held = None;
    }

    /// The lease store has this key as this node's.
    pub fn note_stored(&self, key: PublicKey) {
        let mut keys = self.lock();
        if keys.stored.is_none_or(|(stored, _)| stored != key) {
            keys.stored = Some((key, Instant::now()));
        }
    }

    /// The key that is used for what is new, and since when the lease store has it; none: it has it not.
    pub(crate) fn current(&self) -> Option<(OwnKey, Option<Instant>)> {
        let keys = self.lock();
        let current = keys.current.clone()?;
        let stored = keys.stored.filter(|(key, _)| *key == current.public).map(|(_, since)| since);
        Some((current, stored))
    }

    /// All keys that peers may use with us: the newest first.
    pub(crate) fn accepted(&self, now: Instant) -> Vec<OwnKey> {
        let mut keys = self.lock();
        if keys.previous.as_ref().is_some_and(|(_, ended)| now >= *ended + LEFTOVER) {
            keys.previous = None;
        }
        let previous = keys.previous.as_ref().map(|(key, _)| key);
        keys.next.iter().chain(&keys.current).chain(previous).cloned().collect()
    }

    /// Makes the key that is to be next, if the current one is due; `true`: there is one now, and peers can be told of it by
    /// [`Self::promote`] when all is in place for it. None takes the place of one that the lease store does not have yet.
    pub(crate) fn prepare(&self, age: Duration, now: Instant) -> bool {
        let mut keys = self.lock();
        if keys.next.is_some() {
            return true;
        }
        let Some(current) = &keys.current else { return false };
        let is_stored = keys.stored.is_some_and(|(key, _)| key == current.public);
        if keys.held.is_some() || !is_stored || now < current.since + age.max(LEAST_AGE) {
            return false;
        }
        match OwnKey::generate(now) {
            Ok(next) => keys.next = Some(next),
            Err(error) => tracing::warn!(error, "the IPsec key stays"),
        }
        keys.next.is_some()
    }

    /// When the current key is due, if the lease store has it.
    pub(crate) fn due(&self, age: Duration) -> Option<Instant> {
        let keys = self.lock();
        let current = keys.current.as_ref().filter(|_| keys.held.is_none())?;
        keys.stored.filter(|(key, _)| *key == current.public)?;
        Some(current.since + age.max(LEAST_AGE))
    }

    /// The next key takes the current one's place.
    pub(crate) fn promote(&self, now: Instant) -> Option<PublicKey> {
        let mut keys = self.lock();
        let mut next = keys.next.take()?;
        next.since = now;
        let public = next.public;
        keys.previous = keys.current.replace(next).map(|key| (key, now));
        Some(public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_replaced_when_it_is_due_and_known() {
        let (ring, begin) = (KeyRing::default(), Instant::now());
        let first = ring.published().expect("a key");
        assert_eq!(ring.published(), Ok(first));
        let age = Duration::from_mins(1);
        let later = Instant::now() + age;
        assert!(!ring.prepare(age, later), "nobody knows it yet");
        ring.note_stored(first);
        assert!(!ring.prepare(age, begin));
        assert!(ring.prepare(age, later));
        assert_eq!(ring.published(), Ok(first), "not all is in place for the next");
        let second = ring.promote(later).expect("a next key");
        assert_eq!(ring.published(), Ok(second));
        let accepted = |now| ring.accepted(now).iter().map(|key| key.public).collect::<Vec<_>>();
        assert_eq!(accepted(later), [second, first]);
        assert_eq!(accepted(later + LEFTOVER), [second]);
        assert!(!ring.prepare(age, later + age), "the store does not have it");
    }

    #[test]
    fn what_peers_know_of_a_run_before_stays_until_all_is_in_place() {
        let ring = KeyRing::default();
        let before = PublicKey([7; 32]);
        ring.know_before(before);
        assert_eq!(ring.published(), Ok(before));
        ring.release();
        assert_ne!(ring.published(), Ok(before));
    }

    #[test]
    fn two_keys_agree_and_what_is_no_key_does_not() {
        let (one, other) = (OwnKey::generate(Instant::now()), OwnKey::generate(Instant::now()));
        let (one, other) = (one.expect("a key"), other.expect("a key"));
        assert_eq!(one.agree(&other.public), other.agree(&one.public));
        assert!(one.agree(&PublicKey([0; 32])).is_none());
    }
}
