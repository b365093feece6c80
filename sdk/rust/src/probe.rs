//! Loss and round trips to peers: for policies that take another way when one does not get through.

use std::net::IpAddr;
use std::time::Duration;

use crate::{Error, Link, PeerId};

/// What is probed.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Whose address it is.
    pub peer: PeerId,
    /// One of the peer's public addresses, or an address in its own subnet.
    pub address: IpAddr,
    /// By which device requests leave, whatever the routing table prefers; none: by the way that packets go now.
    pub over: Option<&'a Link>,
    /// Bytes of a request with its IP header, 44 (IPv6: 64) to 9216; none: the smallest.
    pub size: Option<u32>,
    /// Between two requests: one second to an hour, in whole milliseconds. With many targets it is longer, which [`Figures::interval`] says.
    pub interval: Duration,
    /// After so many requests in a row without an answer it is lost, 1 to 100.
    pub lost_after: u32,
    /// After so many answers in a row a lost one is back, 1 to 100.
    pub back_after: u32,
}

impl<'a> Target<'a> {
    /// A target that is asked each second, lost after three requests without an answer, and back after five answers.
    pub fn new(peer: PeerId, address: IpAddr) -> Self {
        Self {
            peer,
            address,
            over: None,
            size: None,
            interval: Duration::from_secs(1),
            lost_after: 3,
            back_after: 5,
        }
    }

    /// The same by this device.
    #[must_use]
    pub fn over(self, device: &'a Link) -> Self {
        Self { over: Some(device), ..self }
    }
}

/// How a target does. When it goes from one to another, there is a tick at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    /// It has neither answered nor been lost yet.
    #[default]
    Untested,
    /// It answers.
    Answered,
    /// It is lost.
    Lost,
}

/// Round trips of those of the last requests that were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundTrip {
    /// The least.
    pub least: Duration,
    /// The mean.
    pub mean: Duration,
    /// That of the last answer.
    pub last: Duration,
}

/// What is known of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How it does.
    pub condition: Condition,
    /// Requests that were answered, or lost, since it is probed.
    pub sent: u64,
    /// Those that were answered.
    pub answered: u64,
    /// The last ones without an answer.
    pub lost_in_a_row: u32,
    /// The last requests that are looked back at, 32 at most.
    pub window: u32,
    /// Those of them that were lost.
    pub window_lost: u32,
    /// Of those that were answered; none: none was.
    pub round_trip: Option<RoundTrip>,
    /// How long ago the last answer was; none: there was none yet.
    pub since_answer: Option<Duration>,
    /// Between two requests, as they are sent.
    pub interval: Duration,
}

#[cfg(target_family = "wasm")]
mod host {
    use std::time::Duration;

    use super::{Condition, Error, Figures, RoundTrip, Target};
    use crate::bindings::flannel::backend::probe as wit;
    use crate::convert;

    /// Declares the whole set of what is probed from now on: at most 32,768 targets. In `lease-acquired`, `put` and `tick`.
    /// [`Error::Unavailable`], where nothing can be probed on this node, dooms no call.
    pub fn watch(targets: &[Target]) -> Result<(), Error> {
        wit::watch(&targets.iter().map(target).collect::<Vec<_>>()).map_err(convert::error)
    }

    /// What is known of one target; none where it is not probed yet, or not any more.
    pub fn report(of: &Target) -> Result<Option<Figures>, Error> {
        Ok(wit::report(&target(of)).map_err(convert::error)?.map(report_from))
    }

    /// The same of all targets of the last [`watch`], in their order there.
    pub fn reports() -> Result<Vec<Option<Figures>>, Error> {
        let reports = wit::reports().map_err(convert::error)?;
        Ok(reports.into_iter().map(|report| report.map(report_from)).collect())
    }

    fn target<'a>(target: &Target<'a>) -> wit::Target<'a> {
        wit::Target {
            peer: convert::peer(target.peer),
            address: convert::address(target.address),
            over: target.over.map(crate::Link::handle),
            size: target.size,
            interval: u32::try_from(target.interval.as_millis()).unwrap_or(u32::MAX),
            lost_after: target.lost_after,
            back_after: target.back_after,
        }
    }

    fn report_from(report: wit::Figures) -> Figures {
        let micros = |count: u32| Duration::from_micros(count.into());
        Figures {
            condition: match report.condition {
                wit::Condition::Untested => Condition::Untested,
                wit::Condition::Answered => Condition::Answered,
                wit::Condition::Lost => Condition::Lost,
            },
            sent: report.sent,
            answered: report.answered,
            lost_in_a_row: report.lost_in_a_row,
            window: report.window,
            window_lost: report.window_lost,
            round_trip: report.round_trip.map(|times| RoundTrip {
                least: micros(times.least),
                mean: micros(times.mean),
                last: micros(times.last),
            }),
            since_answer: report.since_answer.map(Duration::from_millis),
            interval: Duration::from_millis(report.interval.into()),
        }
    }
}

#[cfg(not(target_family = "wasm"))]
mod host {
    use super::{Error, Figures, Target};
    use crate::testing::{Probed, with};

    /// Declares the whole set of what is probed from now on: at most 32,768 targets. In `lease-acquired`, `put` and `tick`.
    /// [`Error::Unavailable`], where nothing can be probed on this node, dooms no call.
    pub fn watch(targets: &[Target]) -> Result<(), Error> {
        with(|host| {
            if let Some(reason) = &host.no_probes {
                return Err(Error::Unavailable(reason.clone()));
            }
            host.probed = targets.iter().map(Probed::of).collect();
            Ok(())
        })
    }

    /// What is known of one target; none where it is not probed yet, or not any more.
    pub fn report(of: &Target) -> Result<Option<Figures>, Error> {
        with(|host| Ok(host.reports.get(&Probed::of(of)).copied()))
    }

    /// The same of all targets of the last [`watch`], in their order there.
    pub fn reports() -> Result<Vec<Option<Figures>>, Error> {
        with(|host| Ok(host.probed.iter().map(|target| host.reports.get(target).copied()).collect()))
    }
}

pub use host::{report, reports, watch};
