//! A plugin that has failed is started afresh, and goes on in its own place: what the daemon asks of the new instance, and what it takes as it
//! comes.

use flannel_plugin_host::Registration;
use serde_json::value::RawValue;

use super::super::session::Session;
use super::subject::{self, Subject};
use super::{Outcome, Stop};

/// Fresh instances that follow on the first.
const STARTS: usize = 2;
/// Characters of a value that is shown.
const SHOWN: usize = 60;

/// A fresh instance can take the place of the former: it has the same name, type and devices, and the node's lease is given the same
/// addresses. Anything else the daemon refuses for as long as it runs.
pub(super) fn same_place(subject: &Subject) -> Outcome {
    let sessions = starts(subject)?;
    for (first, next) in pairs(&sessions) {
        first.registered.is_succeeded_by(&next.registered)?;
        if first.declared.addresses != next.declared.addresses {
            return Err(Stop::Failed(format!(
                "for the same lease it declares {:?} after a restart, and before {:?}",
                next.declared.addresses, first.declared.addresses
            )));
        }
    }
    let devices: Vec<&str> =
        sessions.iter().take(1).flat_map(|first| first.declared.devices.keys()).map(|name| &**name).collect();
    Ok(match devices.as_slice() {
        [] => "no devices".to_owned(),
        devices => devices.join(", "),
    })
}

/// What it registers with otherwise is accepted, and goes into the lease: the whole cluster hears of each restart.
pub(super) fn same_published(subject: &Subject) -> Outcome {
    let sessions = starts(subject)?;
    let differing = pairs(&sessions).find(|(first, next)| !first.registered.agrees(&next.registered));
    let Some((first, next)) = differing else { return Ok(String::new()) };
    let differences = differences(&first.registered, &next.registered).join("; ");
    Err(Stop::Warned(format!(
        "it is accepted, and published anew each time that the plugin is started afresh: {differences}; what is made up at a start, as keys are, can be kept in `state`"
    )))
}

/// The first start, and those that find the durable state which was left to them. Each has served a few peers before the next begins.
fn starts(subject: &Subject) -> Result<Vec<Session>, String> {
    let node = subject.node();
    let mut sessions = vec![subject.start()?];
    for _ in 0..STARTS {
        let Some(last) = sessions.last_mut() else { break };
        subject::expect(last, &subject.puts(1..=3))?;
        let next = last.start_again(subject.artifact, &node, &subject.backend);
        sessions.push(next.map_err(|error| format!("the durable state is that of the last start: {error}"))?);
    }
    Ok(sessions)
}

/// The first with each other.
fn pairs(sessions: &[Session]) -> impl Iterator<Item = (&Session, &Session)> {
    sessions.first().into_iter().flat_map(|first| sessions.iter().skip(1).map(move |next| (first, next)))
}

/// What differs in two registrations of one plugin, in words.
fn differences(first: &Registration, next: &Registration) -> Vec<String> {
    let data =
        |data: &Option<Box<RawValue>>| data.as_ref().map_or("nothing".to_owned(), |data| shown(data.get()));
    let devices = |of: &Registration| shown(&format!("{:?}", of.transaction.devices));
    let fields = [
        ("BackendData", data(&first.backend_data), data(&next.backend_data)),
        ("BackendV6Data", data(&first.backend_v6_data), data(&next.backend_v6_data)),
        ("an MTU of", first.mtu.to_string(), next.mtu.to_string()),
        ("devices", devices(first), devices(next)),
    ];
    let differing = fields.into_iter().filter(|(_, one, other)| one != other);
    let mut words: Vec<String> =
        differing.map(|(what, one, other)| format!("{what} {other}, and before {one}")).collect();
    if words.is_empty() {
        // Behind what is shown of it.
        words.push("what it declares at its start is not the same".to_owned());
    }
    words
}

fn shown(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        text.to_owned()
    } else {
        text.chars().take(SHOWN - 1).chain(['…']).collect()
    }
}
