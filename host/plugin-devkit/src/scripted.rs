//! Probes that are not sent: what is known of targets is what a check says.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flannel_plugin_host::{ProbeCondition, ProbeKey, ProbeReport, Probes, RoundTrip};

/// Requests that a report is about.
const SENT: u32 = 32;

/// What is known of all targets alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Script {
    /// Nothing.
    #[default]
    Nothing,
    /// They are in this condition.
    All(ProbeCondition),
    /// Nothing can be probed on this node.
    Unavailable,
}

/// The script of a node.
#[derive(Debug, Default)]
pub(crate) struct ScriptedProbes(Mutex<Script>);

impl ScriptedProbes {
    fn lock(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this is so.
    pub(crate) fn play(&self, script: Script) {
        *self.lock() = script;
    }
}

impl Probes for ScriptedProbes {
    fn unavailable(&self, _: bool) -> Option<String> {
        (*self.lock() == Script::Unavailable).then(|| "peers cannot be probed on this node".to_owned())
    }

    fn reports(&self, targets: &mut dyn Iterator<Item = &ProbeKey>) -> Vec<Option<ProbeReport>> {
        let report = match *self.lock() {
            Script::All(condition) => Some(report(condition)),
            Script::Nothing | Script::Unavailable => None,
        };
        targets.map(|_| report).collect()
    }
}

fn report(condition: ProbeCondition) -> ProbeReport {
    let interval = Duration::from_secs(1);
    let (sent, answered, round_trip) = match condition {
        ProbeCondition::Untested => (0, 0, None),
        ProbeCondition::Answered => (SENT, SENT, Some(RoundTrip { least: 300, mean: 400, last: 500 })),
        ProbeCondition::Lost => (SENT, 0, None),
    };
    ProbeReport {
        condition,
        sent: sent.into(),
        answered: answered.into(),
        lost_in_a_row: sent - answered,
        window: sent,
        window_lost: sent - answered,
        round_trip,
        since_answer: round_trip.map(|_| interval),
        interval,
    }
}
