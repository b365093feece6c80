//! What is declared for a peer depends on its lease, and on nothing that was before.

use flannel_model::ledger::PeerId;
use flannel_plugin_host::PeerChange;

use super::Outcome;
use super::subject::{self, Subject};

const PEERS: u16 = 100;

/// Another instance comes to the same.
pub(super) fn two_instances(subject: &Subject) -> Outcome {
    let mut sessions = [subject.start()?, subject.start()?];
    for session in &mut sessions {
        subject::expect(session, &subject.puts(1..=PEERS))?;
    }
    let [one, other] = sessions.each_ref().map(subject::entries);
    subject::same(("in one instance", &one), ("in another", &other))?;
    Ok(String::new())
}

/// A renewed snapshot comes to the same.
pub(super) fn same_again(subject: &Subject) -> Outcome {
    let mut session = subject.start()?;
    subject::expect(&mut session, &subject.puts(1..=PEERS))?;
    let first = subject::entries(&session);
    for _ in 0..3 {
        subject::expect(&mut session, &subject.puts(1..=PEERS))?;
        subject::same(("at first", &first), ("later", &subject::entries(&session)))?;
    }
    Ok(String::new())
}

/// A peer that publishes something else is served as if it had never published anything but that.
pub(super) fn changed(subject: &Subject) -> Outcome {
    let moved = moved(subject, 1..=PEERS);
    let mut session = subject.start()?;
    subject::expect(&mut session, &subject.puts(1..=PEERS))?;
    subject::expect(&mut session, &moved)?;
    let mut fresh = subject.start()?;
    subject::expect(&mut fresh, &moved)?;
    subject::same(
        ("after a change of the lease", &subject::entries(&session)),
        ("for the same lease at once", &subject::entries(&fresh)),
    )?;
    Ok(String::new())
}

/// The same subnets as ever, and everything else as another node has it.
fn moved(subject: &Subject, numbers: std::ops::RangeInclusive<u16>) -> Vec<PeerChange> {
    let moved = |number: u16| {
        let mut lease = subject.lease(number);
        lease.attributes = subject.lease(number + 1001).attributes;
        subject::put(number.into(), lease)
    };
    numbers.map(moved).collect()
}

/// A subnet that is leased again is a new peer, and is served like the old one.
pub(super) fn removed(subject: &Subject) -> Outcome {
    let mut session = subject.start()?;
    subject::expect(&mut session, &subject.puts(1..=PEERS))?;
    let first = subject::entries(&session);
    let gone: Vec<PeerChange> = (1..=PEERS).map(|number| subject::removed(number.into())).collect();
    subject::expect(&mut session, &gone)?;
    let back = |number: u16| subject::put(u64::from(number) + 1000, subject.lease(number));
    subject::expect(&mut session, &(1..=PEERS).map(back).collect::<Vec<_>>())?;
    let second = subject::entries(&session).into_iter().map(|(id, entries)| (PeerId(id.0 - 1000), entries));
    subject::same(("at first", &first), ("after the peer was away", &second.collect()))?;
    Ok(String::new())
}

/// A removal that says nothing new.
pub(super) fn unknown_removed(subject: &Subject) -> Outcome {
    let mut session = subject.start()?;
    subject::expect(&mut session, &[subject::removed(7)])?;
    subject::expect(&mut session, &subject.puts(1..=3))?;
    let before = subject::entries(&session);
    let strangers = [4, 4, u64::MAX].map(subject::removed);
    subject::expect(&mut session, &strangers)?;
    subject::same(("before", &before), ("after somebody else went", &subject::entries(&session)))?;
    Ok(String::new())
}

/// In order, backwards, mixed up, and one at a time.
pub(super) fn order(subject: &Subject) -> Outcome {
    let changes = subject.puts(1..=PEERS);
    let mut session = subject.start()?;
    subject::expect(&mut session, &changes)?;
    let ordered = subject::entries(&session);
    let backwards: Vec<PeerChange> = changes.iter().rev().cloned().collect();
    let (odd, even): (Vec<PeerChange>, Vec<PeerChange>) =
        changes.iter().cloned().partition(|change| change.id().0 % 2 == 1);
    let mixed = [even, odd].concat();
    for (said, changes, at_once) in
        [("backwards", &backwards, PEERS), ("mixed up", &mixed, PEERS), ("one at a time", &backwards, 1)]
    {
        let mut session = subject.start()?;
        for batch in changes.chunks(at_once.into()) {
            subject::expect(&mut session, batch)?;
        }
        subject::same(("in order", &ordered), (said, &subject::entries(&session)))?;
    }
    Ok("backwards, mixed up, one at a time".to_owned())
}

/// A cluster with a past is served as one without.
pub(super) fn past(subject: &Subject) -> Outcome {
    let mut session = subject.start()?;
    subject::expect(&mut session, &subject.puts(1..=PEERS))?;
    let mut changes = moved(subject, 20..=50);
    changes.extend((1..20).map(subject::removed));
    changes.extend(subject.puts(101..=150));
    subject::expect(&mut session, &changes)?;
    subject::expect(&mut session, &subject.puts(40..=60))?;
    let mut now = moved(subject, 20..=39);
    now.extend(subject.puts(40..=150));
    let mut fresh = subject.start()?;
    subject::expect(&mut fresh, &now)?;
    subject::same(
        ("after other changes", &subject::entries(&session)),
        ("without them", &subject::entries(&fresh)),
    )?;
    Ok(String::new())
}
