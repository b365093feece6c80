//! The conformance kit: `flanneld plugin check`. Drives a plugin through all that the contract has, with made-up nodes and leases, and
//! says for each demand whether the plugin meets it.

mod describe;
mod history;
mod limits;
mod long_run;
mod odd;
mod reach;
mod register;
mod restart;
mod snapshot;
mod subject;

use std::fmt;

use flannel_plugin_host::Artifact;
use serde::Serialize;

use super::desired::Desired;
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

/// Looks whether a plugin meets a demand.
type Demand = fn(&Subject) -> Outcome;

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

/// All checks of a plugin that starts, in the order in which the daemon calls a plugin.
const CHECKS: [(&str, Demand); 32] = [
    ("describe: a proper name and types", describe::proper),
    ("describe: always the same", describe::constant),
    ("register: after a restart the same name, type, devices and addresses", restart::same_place),
    ("register: after a restart the same data and MTU", restart::same_published),
    ("register: wrong options are refused in words, or accepted", register::wrong_options),
    ("register: odd nodes are refused in words, or accepted", register::odd_nodes),
    ("lease-acquired: what counts is the last lease", register::leased_again),
    ("lease-acquired: addresses reach no further than the node's subnet", reach::addresses),
    ("lease-acquired: the node's own subnet is behind no device", reach::networks),
    ("apply: no leases", snapshot::none),
    ("apply: one lease", snapshot::one),
    ("apply: 100 leases", snapshot::hundred),
    ("apply: 4096 leases", snapshot::most),
    ("apply: IPv6 alone", snapshot::ipv6),
    ("apply: IPv4 and IPv6", snapshot::dual),
    ("apply: the same in two instances", history::two_instances),
    ("apply: the same again declares the same", history::same_again),
    ("apply: a changed lease", history::changed),
    ("apply: peers that go and come back", history::removed),
    ("apply: peers that are not known go", history::unknown_removed),
    ("apply: the order of changes makes no difference", history::order),
    ("apply: the past makes no difference", history::past),
    ("apply: peers of other backends are ignored", odd::foreign),
    ("apply: peers with odd data cost themselves alone", odd::data),
    ("apply: peers with odd addresses cost themselves alone", odd::addresses),
    ("apply: subnets of all sizes", odd::sizes),
    ("tick", limits::tick),
    ("retire", limits::retire),
    ("limits: time", limits::time),
    ("limits: memory for the same leases again and again", limits::memory_of_the_same),
    ("limits: memory for peers that come and go", limits::memory_of_others),
    ("limits: memory and handles in a long run", long_run::steady),
];

/// Checks a plugin. `backend` is the network config's `Backend` object; without one it is that of the first type that the plugin is for,
/// with no options. Each check is told as it ends. Answers whether none failed, and what the plugin wants to have for a few example
/// leases, if it starts.
pub fn check(artifact: &Artifact, backend: Option<&str>, mut tell: impl FnMut(&Check)) -> Conformance {
    let mut conforms = true;
    let mut note = |name, outcome: Outcome| {
        let check = Check { name, verdict: outcome.into() };
        conforms &= !check.failed();
        tell(&check);
    };
    match Subject::new(artifact, backend) {
        Ok(subject) => {
            note("start", Ok(subject.to_string()));
            for (name, run) in CHECKS {
                note(name, run(&subject));
            }
            let desired = subject.example();
            Conformance { conforms, desired: desired.ok() }
        }
        Err(reason) => {
            note("start", Err(reason.into()));
            for (name, _) in CHECKS {
                note(name, Err(Stop::Skipped("it does not start".to_owned())));
            }
            Conformance { conforms, desired: None }
        }
    }
}

/// What came out of all checks.
#[derive(Debug)]
pub struct Conformance {
    /// No check failed.
    pub conforms: bool,
    /// What the plugin wants to have for a few example leases.
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
