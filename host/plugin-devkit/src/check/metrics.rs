//! What a plugin counts of its own.

use flannel_plugin_host::SeriesFamily;

use super::super::session::in_words;
use super::subject::{self, Subject};
use super::{Outcome, Stop};

/// More leases than there are series: whoever counts for each peer is found.
const LEASES: u16 = 100;
/// Names that are shown.
const SHOWN: usize = 8;

/// None of its figures is refused, and so none is missing.
pub(super) fn figures(subject: &Subject) -> Outcome {
    let mut session = subject.start()?;
    subject::expect(&mut session, &subject.puts(1..=LEASES))?;
    for _ in 0..2 {
        match session.policy.tick() {
            // What becomes of ticks another check looks at.
            Err(error) if !in_words(&error) => return Err(error.to_string().into()),
            _ => {}
        }
    }
    let series = session.policy.series();
    if let (refused @ 1.., Some(first)) = series.refusals() {
        return Err(Stop::Warned(format!("{refused} of its calls are refused; the first: {first}")));
    }
    Ok(shown(&series.families()))
}

fn shown(families: &[SeriesFamily]) -> String {
    if families.is_empty() {
        return "it counts nothing of its own".to_owned();
    }
    let count: usize = families.iter().map(|family| family.series.len()).sum();
    let mut names: Vec<&str> = families.iter().take(SHOWN).map(|family| family.name.as_str()).collect();
    if families.len() > SHOWN {
        names.push("…");
    }
    format!("{count} series: {}", names.join(", "))
}
