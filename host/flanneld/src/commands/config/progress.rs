//! How a change goes, as this node's daemon tells it time and again.

use flannel_telemetry::Status;
use flannel_telemetry::status::{Change, Peer};

use super::secrets::told;

/// So many of those that hold up the end are named in a line.
const NAMED: usize = 3;
/// How often a daemon may say what it said before the config was written: it has not looked yet.
const PATIENCE: u32 = 15;
/// How often it has to say that it has what was written, and that nothing changes, if no change was seen.
const QUIET: u32 = 2;

/// Follows a change to one backend.
pub(super) struct Progress {
    /// The `Backend` section that was written, as the daemon tells of it.
    target: String,
    /// Why the daemon did not take up what was in the store before.
    refused_before: Option<String>,
    /// How often it has said the same since.
    refused_again: u32,
    /// The daemon has what was written.
    taken_up: bool,
    /// A change was seen.
    changing: bool,
    /// How often nothing was seen to change.
    quiet: u32,
    /// What was said last.
    said: String,
}

/// What is known after a look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It goes on; with what is new, if anything is.
    GoesOn(Option<String>),
    /// All of the cluster has changed.
    Done,
    /// It will not come to its end.
    Over(String),
}

impl Progress {
    /// For a `Backend` section that is about to be written. `before`: what the daemon says before that.
    pub(super) fn new(target: String, before: Option<&Status>) -> Self {
        let refused_before = before.and_then(|status| status.config.as_ref()?.refused.clone());
        Self {
            target,
            refused_before,
            refused_again: 0,
            taken_up: false,
            changing: false,
            quiet: 0,
            said: String::new(),
        }
    }

    /// Takes what the daemon says now.
    pub(super) fn look(&mut self, status: &Status) -> Look {
        let Some(config) = &status.config else {
            return self.goes_on("this node's daemon does not tell yet which config it has".to_owned());
        };
        if let Some(reason) = &config.refused {
            self.refused_again += 1;
            if self.refused_before.as_ref() != Some(reason) || self.refused_again > PATIENCE {
                return Look::Over(format!("this node does not take it up: {reason}"));
            }
        }
        if told(&config.backend) != self.target {
            if self.taken_up {
                return Look::Over("somebody has written another config meanwhile".to_owned());
            }
            return self.goes_on("this node's daemon has not taken it up yet".to_owned());
        }
        self.taken_up = true;
        match &status.change {
            Some(change) => {
                self.changing = true;
                self.goes_on(line(change))
            }
            None if self.changing || self.quiet >= QUIET => Look::Done,
            None => {
                self.quiet += 1;
                Look::GoesOn(None)
            }
        }
    }

    /// Takes that the daemon does not answer.
    pub(super) fn silent(&mut self, reason: &str) -> Look {
        self.goes_on(format!("{reason}; going on waiting"))
    }

    fn goes_on(&mut self, line: String) -> Look {
        if self.said == line {
            return Look::GoesOn(None);
        }
        self.said.clone_from(&line);
        Look::GoesOn(Some(line))
    }
}

/// How far a change is, in a line.
fn line(change: &Change) -> String {
    let mut line = format!("change {change}");
    if let Some(failure) = &change.failure {
        line = format!("{line}; it does not start on this node: {failure}");
    }
    if change.waits_for.is_empty() {
        return line;
    }
    let named = change.waits_for.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    let more = change.waits_for.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{line}; waits for: {named}{more}")
}

/// Who has not moved, a line for each, and what else holds up the end.
pub(super) fn left_behind(status: &Status) -> Vec<String> {
    let Some(change) = &status.change else { return Vec::new() };
    let mut lines = Vec::new();
    if let Some(failure) = &change.failure {
        lines.push(format!("this node: {} does not start: {failure}", change.to_type));
    }
    let stays = |peer: &&Peer| {
        let other = peer.generation.as_ref().is_some_and(|by| *by != change.to_type);
        other || !peer.problems.is_empty()
    };
    for peer in status.peers.iter().filter(stays) {
        let subnets = peer.subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let by = peer.generation.as_ref().map(|by| format!(", reached by {by}")).unwrap_or_default();
        let reasons =
            if peer.problems.is_empty() { String::new() } else { format!(": {}", peer.problems.join("; ")) };
        lines.push(format!("{subnets}{by}{reasons}"));
    }
    lines.extend(change.waits_for.iter().map(|who| format!("waits for {who}")));
    lines
}

#[cfg(test)]
mod tests {
    use flannel_telemetry::status::Config;

    use super::*;

    const OLD: &str = r#"{"Type":"vxlan"}"#;
    const NEW: &str = r#"{"Type":"host-gw"}"#;

    fn status(backend: &str, change: Option<Change>) -> Status {
        let config = Some(Config { refused: None, backend: backend.to_owned() });
        Status { config, change, ..Status::default() }
    }

    fn change(phase: &str, moved: usize) -> Change {
        let (from_type, to_type) = ("vxlan".to_owned(), "host-gw".to_owned());
        Change { from_type, to_type, phase: phase.to_owned(), moved, peers: 3, ..Change::default() }
    }

    fn changing(phase: &str, moved: usize) -> Status {
        status(NEW, Some(change(phase, moved)))
    }

    fn goes_on(line: &str) -> Look {
        Look::GoesOn((!line.is_empty()).then(|| line.to_owned()))
    }

    #[test]
    fn a_change_is_told_when_it_is_something_else_and_ends_when_the_cluster_is_at_rest() {
        let mut progress = Progress::new(NEW.to_owned(), Some(&status(OLD, None)));
        for (seen, expected) in [
            (status(OLD, None), goes_on("this node's daemon has not taken it up yet")),
            (status(OLD, None), goes_on("")),
            (changing("starting", 0), goes_on("change to host-gw: 0 of 3 peers moved, starting")),
            (changing("moving", 2), goes_on("change to host-gw: 2 of 3 peers moved, moving")),
            (changing("moving", 2), goes_on("")),
            (status(NEW, None), Look::Done),
        ] {
            assert_eq!(progress.look(&seen), expected);
        }
    }

    #[test]
    fn a_change_that_was_too_quick_to_be_seen_is_done_and_one_that_is_about_to_begin_is_not() {
        let mut progress = Progress::new(NEW.to_owned(), Some(&status(OLD, None)));
        assert_eq!(progress.look(&status(NEW, None)), goes_on(""));
        assert_eq!(progress.look(&status(NEW, None)), goes_on(""));
        assert_eq!(progress.look(&status(NEW, None)), Look::Done);
        let mut progress = Progress::new(NEW.to_owned(), Some(&status(OLD, None)));
        assert_eq!(progress.look(&status(NEW, None)), goes_on(""));
        assert_ne!(progress.look(&changing("starting", 0)), Look::Done);
        assert_eq!(progress.look(&status(NEW, None)), Look::Done);
    }

    #[test]
    fn a_config_that_the_node_refuses_or_that_somebody_replaces_ends_the_waiting() {
        let refusing = |reason: &str| {
            let config = Some(Config { refused: Some(reason.to_owned()), backend: OLD.to_owned() });
            Status { config, ..Status::default() }
        };
        let mut progress = Progress::new(NEW.to_owned(), Some(&status(OLD, None)));
        let over = Look::Over("this node does not take it up: no grant".to_owned());
        assert_eq!(progress.look(&refusing("no grant")), over);
        let mut progress = Progress::new(NEW.to_owned(), Some(&refusing("no JSON")));
        assert_ne!(progress.look(&refusing("no JSON")), Look::Over("x".to_owned()));
        assert_eq!(progress.look(&refusing("no JSON")), goes_on(""), "that was before");
        assert_eq!(progress.look(&refusing("no grant")), over);
        let mut progress = Progress::new(NEW.to_owned(), Some(&refusing("no JSON")));
        let last = (0..=PATIENCE).map(|_| progress.look(&refusing("no JSON"))).last();
        assert_eq!(last, Some(Look::Over("this node does not take it up: no JSON".to_owned())));

        let mut progress = Progress::new(NEW.to_owned(), None);
        progress.look(&changing("moving", 1));
        let other = status(r#"{"Type":"udp"}"#, Some(change("moving", 1)));
        assert_eq!(
            progress.look(&other),
            Look::Over("somebody has written another config meanwhile".to_owned())
        );
    }

    #[test]
    fn a_daemon_that_tells_nothing_is_waited_for() {
        let mut progress = Progress::new(NEW.to_owned(), None);
        let line = "this node's daemon does not tell yet which config it has";
        assert_eq!(progress.look(&Status::default()), goes_on(line));
        assert_eq!(progress.look(&Status::default()), goes_on(""));
        assert_eq!(progress.silent("it is away"), goes_on("it is away; going on waiting"));
        assert_eq!(progress.silent("it is away"), goes_on(""));
        assert_eq!(progress.look(&Status::default()), goes_on(line));
    }

    #[test]
    fn who_holds_up_the_end_is_named() {
        let mut change = change("moving", 1);
        change.waits_for = (1..=5).map(|n| format!("10.5.{n}.0/24: no answer")).collect();
        change.failure = Some("UDP port 8285 is taken".to_owned());
        assert_eq!(
            line(&change),
            "change to host-gw: 1 of 3 peers moved, moving; it does not start on this node: UDP port 8285 is taken; \
             waits for: 10.5.1.0/24: no answer; 10.5.2.0/24: no answer; 10.5.3.0/24: no answer; and 2 more"
        );
        let peer = |subnet: &str, generation: &str, problems: &[&str]| Peer {
            subnets: vec![subnet.parse().expect("subnet")],
            generation: Some(generation.to_owned()),
            problems: problems.iter().map(|problem| (*problem).to_owned()).collect(),
            ..Peer::default()
        };
        change.waits_for.truncate(1);
        let mut status = status(NEW, Some(change));
        status.peers = vec![
            peer("10.5.7.0/24", "host-gw", &[]),
            peer("10.5.8.0/24", "vxlan", &["no answer over host-gw"]),
            peer("10.5.9.0/24", "vxlan", &[]),
        ];
        assert_eq!(
            left_behind(&status),
            [
                "this node: host-gw does not start: UDP port 8285 is taken",
                "10.5.8.0/24, reached by vxlan: no answer over host-gw",
                "10.5.9.0/24, reached by vxlan",
                "waits for 10.5.1.0/24: no answer",
            ]
        );
        assert_eq!(left_behind(&Status::default()), [""; 0]);
    }
}
