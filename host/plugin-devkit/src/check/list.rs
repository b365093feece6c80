//! The checks there are, and which of them are made.

use std::fmt;

use super::subject::Subject;
use super::{
    Outcome, describe, history, limits, long_run, metrics, odd, probes, reach, refresh, register, restart,
    snapshot,
};

/// Looks whether a plugin meets a demand.
type Look = fn(&Subject) -> Outcome;

/// When a check is made, if none is chosen by its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Among all.
    Whole,
    /// Among all, and in a hurry.
    Always,
    /// In a hurry alone: among all there are others that look at the same for longer.
    Hurry,
}
use When::{Always, Hurry, Whole};

/// A demand that plugins have to meet.
pub(super) struct Demand {
    /// As it is called on the command line.
    pub id: &'static str,
    /// What is demanded.
    pub name: &'static str,
    /// Looks whether it is met.
    pub look: Look,
    when: When,
}

const fn demand(when: When, id: &'static str, name: &'static str, look: Look) -> Demand {
    Demand { id, name, look, when }
}

/// The check that a plugin starts at all. It is always made.
pub(super) const START: &str = "start";

/// The check that it can look at the leases of a file. It is made if there is one.
pub(super) const LEASES: &str = "leases";

/// All checks of a plugin that starts, in the order in which the daemon calls a plugin.
static DEMANDS: [Demand; 36] = [
    demand(Always, "describe-names", "describe: a proper name and types", describe::proper),
    demand(Whole, "describe-constant", "describe: always the same", describe::constant),
    demand(
        Always,
        "register-restart",
        "register: after a restart the same name, type, devices and addresses",
        restart::same_place,
    ),
    demand(
        Always,
        "register-restart-data",
        "register: after a restart the same data and MTU",
        restart::same_published,
    ),
    demand(
        Whole,
        "register-options",
        "register: wrong options are refused in words, or accepted",
        register::wrong_options,
    ),
    demand(
        Whole,
        "register-nodes",
        "register: odd nodes are refused in words, or accepted",
        register::odd_nodes,
    ),
    demand(
        Whole,
        "lease-acquired-again",
        "lease-acquired: what counts is the last lease",
        register::leased_again,
    ),
    demand(
        Always,
        "lease-acquired-addresses",
        "lease-acquired: addresses reach no further than the node's subnet",
        reach::addresses,
    ),
    demand(
        Always,
        "lease-acquired-networks",
        "lease-acquired: the node's own subnet is behind no device",
        reach::networks,
    ),
    demand(Whole, "apply-none", "apply: no leases", snapshot::none),
    demand(Whole, "apply-one", "apply: one lease", snapshot::one),
    demand(Always, "apply-100", "apply: 100 leases", snapshot::hundred),
    demand(Whole, "apply-4096", "apply: 4096 leases", snapshot::most),
    demand(Whole, "apply-ipv6", "apply: IPv6 alone", snapshot::ipv6),
    demand(Whole, "apply-dual", "apply: IPv4 and IPv6", snapshot::dual),
    demand(Whole, "apply-instances", "apply: the same in two instances", history::two_instances),
    demand(Whole, "apply-again", "apply: the same again declares the same", history::same_again),
    demand(Whole, "apply-changed", "apply: a changed lease", history::changed),
    demand(Always, "apply-removed", "apply: peers that go and come back", history::removed),
    demand(Whole, "apply-unknown", "apply: peers that are not known go", history::unknown_removed),
    demand(Whole, "apply-order", "apply: the order of changes makes no difference", history::order),
    demand(Whole, "apply-past", "apply: the past makes no difference", history::past),
    demand(Always, "apply-foreign", "apply: peers of other backends are ignored", odd::foreign),
    demand(Whole, "apply-data", "apply: peers with odd data cost themselves alone", odd::data),
    demand(Whole, "apply-addresses", "apply: peers with odd addresses cost themselves alone", odd::addresses),
    demand(Whole, "apply-sizes", "apply: subnets of all sizes", odd::sizes),
    demand(Always, "tick", "tick", limits::tick),
    demand(Whole, "retire", "retire", limits::retire),
    demand(Always, "refresh", "peers: what it asks for again comes to an end", refresh::comes_to_an_end),
    demand(Always, "probes", "probe: peers that are lost, and come back", probes::lost_and_back),
    demand(Always, "metrics", "metrics: none is refused", metrics::figures),
    demand(Hurry, "limits-short", "limits: time, memory and handles in a short run", limits::short),
    demand(Whole, "limits-time", "limits: time", limits::time),
    demand(
        Whole,
        "limits-memory-same",
        "limits: memory for the same leases again and again",
        limits::memory_of_the_same,
    ),
    demand(
        Whole,
        "limits-memory-peers",
        "limits: memory for peers that come and go",
        limits::memory_of_others,
    ),
    demand(Whole, "limits-long-run", "limits: memory and handles in a long run", long_run::steady),
];

/// Which checks are made. That the plugin starts is always looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// All.
    #[default]
    All,
    /// Those that take a second or two together.
    Quick,
    /// These, by their names, in the order of all.
    Only(Vec<&'static str>),
}

impl Selection {
    /// Those of these names: a check's own, or how several begin, such as `apply`. The error, for an operator, lists the names.
    pub fn only(names: &[String]) -> Result<Self, String> {
        let is_meant = |demand: &Demand, name: &str| {
            let rest = demand.id.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let is_known = |name: &str| {
            [START, LEASES].contains(&name) || DEMANDS.iter().any(|demand| is_meant(demand, name))
        };
        if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
            let all: Vec<&str> =
                [START, LEASES].into_iter().chain(DEMANDS.iter().map(|demand| demand.id)).collect();
            return Err(format!(
                "there is no check {unknown:?}; there are: {}; a beginning such as `apply` or `limits-memory` names several",
                all.join(", ")
            ));
        }
        let meant = DEMANDS.iter().filter(|demand| names.iter().any(|name| is_meant(demand, name)));
        Ok(Self::Only(meant.map(|demand| demand.id).collect()))
    }

    /// What is looked at.
    pub(super) fn demands(&self) -> impl Iterator<Item = &'static Demand> {
        DEMANDS.iter().filter(|demand| match self {
            Self::All => demand.when != Hurry,
            Self::Quick => demand.when != Whole,
            Self::Only(names) => names.contains(&demand.id),
        })
    }

    /// Whether it takes more checks to know that a plugin conforms.
    pub fn is_part(&self) -> bool {
        *self != Self::All
    }
}

/// As it is asked for on the command line; empty: all.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::Quick => f.write_str("--quick"),
            Self::Only(names) if names.is_empty() => write!(f, "--only {START}"),
            Self::Only(names) => write!(f, "--only {}", names.join(",")),
        }
    }
}
