//! Which states a peer has, and when they change: pure.
//!
//! A *session* is what one key of ours and one of the peer's make together: a state for each direction. What comes in is taken by several
//! sessions at a time; what goes out goes by one. Nothing is ever asked of the peer. Each node has in place what others may send with before
//! they can know of it, and goes over to another session of its own accord when it has seen that the peer has it:
//!
//! * The peer has published another key. It did so when it was ready for whoever uses it, so it is used at once: with the key of ours that the
//!   peer knows. Two nodes may do so at the same time, so what comes in is taken with the peer's key of before, too, for a while.
//! * This node has published another key. It is used for what goes out when something has come in by it: then the peer knows it. A peer that
//!   sends nothing is given some time. One that still sends by the key of before has not heard yet: a lease store that is away from it stops
//!   no packets.
//!
//! What nobody sends with any more goes.

use std::time::{Duration, Instant};

use flannel_model::wireguard::PublicKey;

/// After so long a silent peer is taken to have read what the lease store has been told.
const PATIENCE: Duration = Duration::from_secs(15);
/// A state that has carried something within this time is in use.
const IN_USE: Duration = Duration::from_secs(30);
/// For so long packets are on their way after the peer has gone over to another session.
const IN_FLIGHT: Duration = Duration::from_secs(10);
/// For so long a key of the peer's is good for what comes in after another one has taken its place; then its states go, unless they are in use.
const PEERS_BEFORE: Duration = Duration::from_mins(2);
/// After so long a state goes whatever else.
const OLDEST: Duration = Duration::from_hours(24);

/// What two keys make together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Session {
    /// Ours.
    pub own: PublicKey,
    /// The peer's.
    pub peer: PublicKey,
}

/// A state for what comes in.
#[derive(Clone, Debug)]
pub(super) struct Inbound {
    /// Its number.
    pub spi: u32,
    /// What it belongs to; none: a daemon of before has made it, and took the key with it.
    pub session: Option<Session>,
    /// Packets that it had carried when it was looked at last.
    packets: u64,
    /// When it was seen to have carried something more.
    used: Option<Instant>,
    /// Since when nobody should need it any more.
    superseded: Option<Instant>,
}

/// A state for what goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outbound {
    /// Its number.
    pub spi: u32,
    /// As of what comes in.
    pub session: Option<Session>,
}

/// What is to be done for a peer, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Take what comes in by this session.
    Receive(Session),
    /// Send by this session, and by no other.
    Send(Session),
    /// Remove a state for what comes in.
    Drop(u32),
}

/// This node's keys, as far as sessions are concerned.
pub(super) struct Own<'a> {
    /// All that peers may use.
    pub accepted: &'a [PublicKey],
    /// That which is used for what is new.
    pub current: PublicKey,
    /// Since when the lease store has it; none: it has it not.
    pub stored: Option<Instant>,
}

impl Own<'_> {
    /// Whether even a silent peer must have read of the current key.
    fn is_told(&self, now: Instant) -> bool {
        self.stored.is_some_and(|since| now >= since + PATIENCE)
    }
}

/// The states of a peer.
#[derive(Clone, Debug, Default)]
pub(super) struct States {
    pub inbound: Vec<Inbound>,
    pub outbound: Option<Outbound>,
    /// The peer's key, as it was the last time.
    peer: Option<PublicKey>,
    /// The one before that, and when it ended.
    before: Option<(PublicKey, Instant)>,
}

impl States {
    /// Takes note of a state for what comes in. `packets`: what it has carried so far.
    pub(super) fn add_inbound(&mut self, spi: u32, session: Option<Session>, packets: u64) {
        self.inbound.push(Inbound { spi, session, packets, used: None, superseded: None });
    }

    /// Takes note of how many packets a state has carried so far.
    pub(super) fn count(&mut self, spi: u32, packets: u64, now: Instant) {
        if let Some(state) = self.inbound.iter_mut().find(|state| state.spi == spi)
            && packets != state.packets
        {
            (state.packets, state.used) = (packets, Some(now));
        }
    }

    /// Whether nothing is to be looked at before long: the peer has gone over to this session, and nothing of before is left.
    pub(super) fn is_settled(&self, target: Session) -> bool {
        self.outbound.is_some_and(|state| state.session == Some(target))
            && self.before.is_none()
            && self.inbound.iter().all(|state| state.superseded.is_none())
    }

    /// Whether what goes out goes by the key that is used for what is new.
    pub(super) fn sends_by(&self, own: PublicKey) -> bool {
        self.outbound.is_none_or(|state| state.session.is_some_and(|session| session.own == own))
    }

    /// What is to be done now. `peer`: the peer's key.
    pub(super) fn steps(&mut self, own: &Own<'_>, peer: PublicKey, now: Instant) -> Vec<Step> {
        if let Some(before) = self.peer.replace(peer).filter(|before| *before != peer) {
            self.before = Some((before, now));
        }
        self.before = self.before.filter(|(_, since)| now < *since + PEERS_BEFORE);
        let before = self.before.map(|(before, _)| before);
        let wanted = std::iter::once(peer)
            .chain(before)
            .flat_map(|peer| own.accepted.iter().map(move |own| Session { own: *own, peer }));
        let has = |wanted: Session| self.inbound.iter().any(|state| state.session == Some(wanted));
        let mut steps: Vec<Step> = wanted.filter(|one| !has(*one)).map(Step::Receive).collect();
        steps.extend(self.outgoing(own, peer, now).map(Step::Send));
        steps.extend(self.retired(own, peer, now).into_iter().map(Step::Drop));
        steps
    }

    /// Whether something has come in by a key of ours: then the peer knows it.
    fn has_heard(&self, key: PublicKey) -> bool {
        let is_its = |state: &Inbound| state.session.is_some_and(|session| session.own == key);
        self.inbound.iter().any(|state| is_its(state) && state.packets > 0)
    }

    /// Another session for what goes out, if it is time.
    fn outgoing(&self, own: &Own<'_>, peer: PublicKey, now: Instant) -> Option<Session> {
        let target = Session { own: own.current, peer };
        let Some(Outbound { session, .. }) = self.outbound else { return Some(target) };
        match session {
            Some(session) if session == target => None,
            // The peer was ready for the key that it knew us by.
            Some(session) if session.peer != peer => {
                let is_known = self.has_heard(own.current) || own.is_told(now);
                let known =
                    if is_known || !own.accepted.contains(&session.own) { own.current } else { session.own };
                Some(Session { own: known, peer })
            }
            _ => {
                let is_older =
                    |state: &&Inbound| state.session.is_none_or(|session| session.own != own.current);
                let older = self.inbound.iter().filter(is_older);
                let in_use = older.filter_map(|state| state.used).any(|used| now < used + IN_USE);
                (self.has_heard(own.current) || own.is_told(now) && !in_use).then_some(target)
            }
        }
    }

    /// The states that nobody sends with any more.
    fn retired(&mut self, own: &Own<'_>, peer: PublicKey, now: Instant) -> Vec<u32> {
        let before = self.before.map(|(before, _)| before);
        let is_wanted = |state: &Inbound| {
            state.session.is_some_and(|session| {
                (session.peer == peer || Some(session.peer) == before) && own.accepted.contains(&session.own)
            })
        };
        let newer = self.inbound.iter().filter(|state| is_wanted(state));
        let heard = newer.filter_map(|state| state.used).max();
        let mut retired = Vec::new();
        for state in &mut self.inbound {
            if is_wanted(state) {
                state.superseded = None;
                continue;
            }
            let since = *state.superseded.get_or_insert(now);
            let in_use = state.used.is_some_and(|used| now < used + IN_USE);
            let is_peers = state.session.is_some_and(|session| session.peer != peer);
            let has_gone_over = heard.is_some() && now >= since + IN_FLIGHT && !in_use;
            let is_forgotten = is_peers && !in_use;
            if has_gone_over || is_forgotten || now >= since + OLDEST {
                retired.push(state.spi);
            }
        }
        retired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey([number; 32])
    }

    fn session(own: u8, peer: u8) -> Session {
        Session { own: key(own), peer: key(peer) }
    }

    /// Does what is to be done; the SPI of a session says which one it is.
    fn run(states: &mut States, own: &Own<'_>, peer: u8, now: Instant) -> Vec<Step> {
        let steps = states.steps(own, key(peer), now);
        for step in &steps {
            match step {
                Step::Receive(one) => states.add_inbound(spi(*one), Some(*one), 0),
                Step::Send(one) => states.outbound = Some(Outbound { spi: spi(*one), session: Some(*one) }),
                Step::Drop(spi) => states.inbound.retain(|state| state.spi != *spi),
            }
        }
        steps
    }

    fn spi(session: Session) -> u32 {
        u32::from(session.own.0[0]) << 8 | u32::from(session.peer.0[0])
    }

    fn own(accepted: &[PublicKey], current: u8, stored: Option<Instant>) -> Own<'_> {
        Own { accepted, current: key(current), stored }
    }

    #[test]
    fn a_new_peer_is_reached_at_once() {
        let (mut states, now) = (States::default(), Instant::now());
        let accepted = [key(1)];
        let steps = run(&mut states, &own(&accepted, 1, None), 7, now);
        assert_eq!(steps, [Step::Receive(session(1, 7)), Step::Send(session(1, 7))]);
        assert_eq!(run(&mut states, &own(&accepted, 1, None), 7, now), []);
        assert!(states.is_settled(session(1, 7)));
    }

    #[test]
    fn another_key_of_the_peers_is_used_at_once_and_what_is_on_its_way_by_the_old_one_is_taken() {
        let (mut states, now) = (States::default(), Instant::now());
        let accepted = [key(1)];
        let own = own(&accepted, 1, Some(now));
        run(&mut states, &own, 7, now);
        states.count(spi(session(1, 7)), 5, now);
        let steps = run(&mut states, &own, 8, now);
        assert_eq!(steps, [Step::Receive(session(1, 8)), Step::Send(session(1, 8))]);
        states.count(spi(session(1, 8)), 1, now);
        let late = now + Duration::from_secs(119);
        states.count(spi(session(1, 7)), 6, late);
        assert_eq!(run(&mut states, &own, 8, late), []);
        assert_eq!(run(&mut states, &own, 8, now + PEERS_BEFORE), [], "it was in use a moment ago");
        assert_eq!(run(&mut states, &own, 8, late + IN_USE), [Step::Drop(spi(session(1, 7)))]);
        assert!(states.is_settled(session(1, 8)));
    }

    /// Each has in place what the other may send with, whichever it has heard of first.
    #[test]
    fn two_nodes_that_replace_their_keys_at_the_same_time_understand_each_other() {
        let now = Instant::now();
        let (a_before, a_both, b_before, b_both) = ([key(1)], [key(2), key(1)], [key(7)], [key(8), key(7)]);
        for a_hears_first in [true, false] {
            let (mut a, mut b) = (States::default(), States::default());
            run(&mut a, &own(&a_before, 1, Some(now)), 7, now);
            run(&mut b, &own(&b_before, 7, Some(now)), 1, now);
            let later = now + Duration::from_mins(1);
            // Prepared, and then published by both.
            run(&mut a, &own(&a_both, 1, Some(now)), 7, later);
            run(&mut b, &own(&b_both, 7, Some(now)), 1, later);
            let (a_now, b_now) = (own(&a_both, 2, Some(later)), own(&b_both, 8, Some(later)));
            let understood = |from: &States, to: &States, when: &str| {
                let sent = from.outbound.and_then(|state| state.session).expect("a session");
                let received = Session { own: sent.peer, peer: sent.own };
                assert!(to.inbound.iter().any(|state| state.session == Some(received)), "{when}: {sent:?}");
            };
            for step in 0..2 {
                if a_hears_first == (step == 0) {
                    run(&mut a, &a_now, 8, later);
                } else {
                    run(&mut b, &b_now, 2, later);
                }
                understood(&a, &b, "a sends");
                understood(&b, &a, "b sends");
            }
            for _ in 0..2 {
                let sent = |from: &States| {
                    let session = from.outbound.and_then(|state| state.session).expect("a session");
                    spi(Session { own: session.peer, peer: session.own })
                };
                let (from_a, from_b) = (sent(&a), sent(&b));
                a.count(from_b, 9, later);
                b.count(from_a, 9, later);
                run(&mut a, &a_now, 8, later);
                run(&mut b, &b_now, 2, later);
                understood(&a, &b, "a sends");
                understood(&b, &a, "b sends");
            }
            assert!(a.sends_by(key(2)) && b.sends_by(key(8)), "each has heard that the other knows");
        }
    }

    #[test]
    fn another_key_of_ours_is_used_when_the_peer_has_used_it() {
        let (mut states, now) = (States::default(), Instant::now());
        let before = [key(1)];
        run(&mut states, &own(&before, 1, Some(now)), 7, now);
        let both = [key(2), key(1)];
        // In place, and nobody is told of it yet.
        assert_eq!(run(&mut states, &own(&both, 1, Some(now)), 7, now), [Step::Receive(session(2, 7))]);
        let after = own(&both, 2, Some(now));
        assert_eq!(run(&mut states, &after, 7, now), [], "the peer may not know it");
        states.count(spi(session(2, 7)), 1, now);
        assert_eq!(run(&mut states, &after, 7, now), [Step::Send(session(2, 7))]);
        let alone = [key(2)];
        let later = now + Duration::from_mins(10);
        assert_eq!(run(&mut states, &own(&alone, 2, Some(now)), 7, later), []);
        let dropped = run(&mut states, &own(&alone, 2, Some(now)), 7, later + IN_FLIGHT);
        assert_eq!(dropped, [Step::Drop(spi(session(1, 7)))]);
    }

    #[test]
    fn a_peer_that_sends_nothing_is_given_some_time() {
        let (mut states, now) = (States::default(), Instant::now());
        run(&mut states, &own(&[key(1)], 1, Some(now)), 7, now);
        let both = [key(2), key(1)];
        run(&mut states, &own(&both, 2, None), 7, now);
        let later = now + PATIENCE;
        assert_eq!(run(&mut states, &own(&both, 2, None), 7, later), [], "the store has not been told");
        assert_eq!(run(&mut states, &own(&both, 2, Some(now)), 7, later), [Step::Send(session(2, 7))]);
    }

    #[test]
    fn a_peer_that_has_not_heard_is_reached_as_before() {
        let (mut states, mut now) = (States::default(), Instant::now());
        run(&mut states, &own(&[key(1)], 1, Some(now)), 7, now);
        let both = [key(2), key(1)];
        let after = own(&both, 2, Some(now));
        run(&mut states, &after, 7, now);
        for packets in 1..100 {
            now += Duration::from_secs(20);
            states.count(spi(session(1, 7)), packets, now);
            assert_eq!(run(&mut states, &after, 7, now), []);
        }
        assert!(!states.is_settled(session(2, 7)));
    }

    #[test]
    fn what_a_daemon_before_has_made_serves_until_the_peer_has_gone_over() {
        let (mut states, now) = (States::default(), Instant::now());
        states.add_inbound(70, None, 90);
        states.outbound = Some(Outbound { spi: 71, session: None });
        let accepted = [key(1)];
        let own = own(&accepted, 1, Some(now));
        states.count(70, 100, now);
        assert_eq!(run(&mut states, &own, 7, now), [Step::Receive(session(1, 7))]);
        states.count(spi(session(1, 7)), 1, now + PATIENCE);
        assert_eq!(run(&mut states, &own, 7, now + PATIENCE), [Step::Send(session(1, 7))]);
        assert_eq!(run(&mut states, &own, 7, now + IN_USE), [Step::Drop(70)]);
        assert!(states.is_settled(session(1, 7)));
    }

    #[test]
    fn nothing_is_kept_for_ever() {
        let (mut states, now) = (States::default(), Instant::now());
        run(&mut states, &own(&[key(1)], 1, Some(now)), 7, now);
        let alone = [key(2)];
        run(&mut states, &own(&alone, 2, Some(now)), 7, now);
        let steps = run(&mut states, &own(&alone, 2, Some(now)), 7, now + OLDEST);
        assert!(steps.contains(&Step::Drop(spi(session(1, 7)))), "{steps:?}");
    }
}
