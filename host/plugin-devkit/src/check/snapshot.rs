//! Snapshots: so many leases at once.

use std::collections::BTreeMap;

use super::super::node::Families;
use super::subject::{self, Subject};
use super::{Outcome, Stop};

/// Nothing is declared for nobody.
pub(super) fn none(subject: &Subject) -> Outcome {
    let mut session = subject.start()?;
    subject::expect(&mut session, &[])?;
    Ok(String::new())
}

/// A single peer.
pub(super) fn one(subject: &Subject) -> Outcome {
    served(subject, 1)
}

/// A small cluster.
pub(super) fn hundred(subject: &Subject) -> Outcome {
    served(subject, 100)
}

/// The largest batch.
pub(super) fn most(subject: &Subject) -> Outcome {
    served(subject, 4096)
}

/// A cluster with IPv6 alone.
pub(super) fn ipv6(subject: &Subject) -> Outcome {
    elsewhere(subject, Families::Ipv6)
}

/// A cluster with both families.
pub(super) fn dual(subject: &Subject) -> Outcome {
    elsewhere(subject, Families::Dual)
}

fn elsewhere(subject: &Subject, families: Families) -> Outcome {
    match subject.with(families) {
        Ok(subject) => served(&subject, 100),
        Err(error) if error.in_words() => Err(Stop::Skipped(format!("it refuses: {error}"))),
        Err(error) => Err(Stop::Failed(error.to_string())),
    }
}

/// Peers that are all alike are all served, and alike.
fn served(subject: &Subject, count: u16) -> Outcome {
    let mut session = subject.start()?;
    subject::expect(&mut session, &subject.puts(1..=count))?;
    let entries = subject::entries(&session);
    let mut numbers: BTreeMap<usize, (u64, usize)> = BTreeMap::new();
    for (id, entries) in &entries {
        numbers.entry(entries.len()).or_insert((id.0, 0)).1 += 1;
    }
    let mut numbers = numbers.into_iter();
    match (numbers.next(), numbers.next()) {
        (Some((each, _)), None) => Ok(match each {
            0 => "no entries".to_owned(),
            1 => "1 entry each".to_owned(),
            each => format!("{each} entries each"),
        }),
        (Some((few, (one, _))), Some((many, (other, _)))) => Err(Stop::Failed(format!(
            "peers that are alike are served differently: #{one} has {few} entries, and #{other} has {many}"
        ))),
        (None, _) => Err(Stop::Failed("no peer was handed over".to_owned())),
    }
}
