//! The conformance kit: `flanneld plugin check`. Drives a plugin through all that the contract has, with made-up nodes and leases, and
//! says for each demand whether the plugin meets it.

mod describe;
mod history;
mod limits;
mod list;
mod long_run;
mod metrics;
mod odd;
mod probes;
mod reach;
mod refresh;
mod register;
mod restart;
mod snapshot;
mod subject;

use std::fmt;

use flannel_plugin_host::Artifact;
use serde::Serialize;

use super::desired::Desired;
use super::leases::LeasesFile;
use super::wanted::Wanted;
pub use list::Selection;
use subject::Subject;

/// How one check ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "detail", rename_all = "lowercase")]
pub enum Verdict {
    /// The demand is met; with what was seen.
    Ok(String),
    /// It is, and there is something that costs the plugin's users; its author should know.
    Warning(String),
    /// It is not, and how.
    Failed(String),
    /// The check does not apply, and why.
    Skipped(String),
}

impl Verdict {
    /// Whether the demand is not met.
    pub fn failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    /// In a line, with what was demanded.
    pub fn about(&self, name: &str) -> String {
        let (word, text) = match self {
            Self::Ok(text) => ("ok", text),
            Self::Warning(text) => ("WARNING", text),
            Self::Failed(text) => ("FAILED", text),
            Self::Skipped(text) => ("skipped", text),
        };
        let colon = if text.is_empty() { "" } else { ": " };
        format!("{word:7}  {name}{colon}{text}")
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// As it is called on the command line.
    pub id: &'static str,
    /// What is demanded.
    pub name: &'static str,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Check {
    /// Whether the plugin does not conform.
    pub fn failed(&self) -> bool {
        self.verdict.failed()
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.verdict.about(self.name))
    }
}

/// How a check ends early.
enum Stop {
    Warned(String),
    Failed(String),
    Skipped(String),
}

/// Errors as text are failures.
impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

type Outcome = Result<String, Stop>;

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Ok(seen) => Self::Ok(seen),
            Err(Stop::Warned(reason)) => Self::Warning(reason),
            Err(Stop::Failed(reason)) => Self::Failed(reason),
            Err(Stop::Skipped(reason)) => Self::Skipped(reason),
        }
    }
}

/// Checks a plugin. Each check is told as it ends. Answers whether none failed, and what the plugin wants to have, if it starts: for the
/// leases of a file, which it has to be able to look at, or for a few made-up ones.
pub fn check(
    artifact: &Artifact,
    wanted: &Wanted,
    leases: Option<&LeasesFile>,
    selection: &Selection,
    mut tell: impl FnMut(&Check),
) -> Conformance {
    let mut conforms = true;
    let mut note = |id, name, outcome: Outcome| {
        let check = Check { id, name, verdict: outcome.into() };
        conforms &= !check.failed();
        tell(&check);
    };
    match Subject::new(artifact, wanted) {
        Ok(subject) => {
            note(list::START, "start", Ok(subject.to_string()));
            for demand in selection.demands() {
                note(demand.id, demand.name, (demand.look)(&subject));
            }
            let Some(file) = leases else {
                return Conformance { conforms, desired: subject.example().ok() };
            };
            let desired = subject.desired(file);
            note(list::LEASES, "apply: the leases of the file", of_file(desired.as_ref()));
            Conformance { conforms, desired: desired.ok() }
        }
        Err(reason) => {
            note(list::START, "start", Err(reason.into()));
            for demand in selection.demands() {
                note(demand.id, demand.name, Err(Stop::Skipped("it does not start".to_owned())));
            }
            Conformance { conforms, desired: None }
        }
    }
}

/// Each lease of a file is served, or rejected in words.
fn of_file(desired: Result<&Desired, &String>) -> Outcome {
    let desired = desired.map_err(String::clone)?;
    let rejected = desired.peers.iter().filter(|peer| peer.rejected.is_some()).count();
    desired.failure().map_or_else(|| Ok(format!("{rejected} rejected")), |failure| Err(failure.into()))
}

/// What came out of the checks.
#[derive(Debug)]
pub struct Conformance {
    /// No check failed.
    pub conforms: bool,
    /// What the plugin wants to have for a few leases.
    pub desired: Option<Desired>,
}

/// The lines in which two texts differ: those that only the first has with a `-`, those that only the second has with a `+`.
pub fn difference(right: &str, found: &str) -> Vec<String> {
    let only = |sign: char, of: &str, not_of: &str| -> Vec<String> {
        let others: Vec<&str> = not_of.lines().collect();
        of.lines().filter(|line| !others.contains(line)).map(|line| format!("{sign} {line}")).collect()
    };
    let mut lines = only('-', right, found);
    lines.extend(only('+', found, right));
    if lines.is_empty() && right != found {
        lines.push("  the same lines in another order".to_owned());
    }
    lines
}
