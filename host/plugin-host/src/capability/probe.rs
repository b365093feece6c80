//! `probe`: loss and round trips to peers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use flannel_base::Family;
use flannel_model::entry::Device;
use flannel_model::lease::{Lease, Subnets};
use flannel_model::ledger::PeerId;

use super::HostState;
use super::entries::is_host;
use crate::bindings::flannel::backend::probe::{self as wit, Error};
use crate::call::Function;
use crate::convert;
use crate::probing::{ProbeCondition, ProbeKey, ProbeReport, ProbeTarget, belongs, is_inner};

/// Bytes of a request that has room for what its answer is known by: 16, behind ICMP's header and IP's.
const SMALLEST: [u16; 2] = [20 + 8 + 16, 40 + 8 + 16];
/// Bytes of the largest: interfaces may have more (65,536), and no path.
const LARGEST: u16 = 9216;
/// Milliseconds between two requests.
const INTERVALS: std::ops::RangeInclusive<u32> = 1000..=3_600_000;
/// Requests in a row that make a difference.
const IN_A_ROW: std::ops::RangeInclusive<u32> = 1..=100;

impl wit::Host for HostState {
    fn watch(&mut self, targets: Vec<wit::Target>) -> wasmtime::Result<Result<(), Error>> {
        self.enter("probe.watch")?;
        let devices = self.devices_of(&targets)?;
        let outcome = self.checked_targets(&targets, devices);
        let outcome = outcome.map(|targets| self.call.wishes.probes = Some(targets));
        Ok(self.probe_outcome("probe.watch", outcome))
    }

    fn report(&mut self, target: wit::Target) -> wasmtime::Result<Result<Option<wit::Figures>, Error>> {
        self.enter("probe.report")?;
        let device = self.devices_of(std::slice::from_ref(&target))?.pop().flatten();
        let known = self.check_probing().and_then(|()| self.checked_key(&target, device.as_ref()));
        let outcome = known.map(|(key, lease)| {
            lease?;
            let reports = self.environment.probes.reports(&mut std::iter::once(&key));
            reports.into_iter().next().flatten().map(report_out)
        });
        Ok(self.probe_outcome("probe.report", outcome))
    }

    fn reports(&mut self) -> wasmtime::Result<Result<Vec<Option<wit::Figures>>, Error>> {
        self.enter("probe.reports")?;
        let outcome = self.check_probing().map(|()| {
            let this_call = self.call.wishes.probes.clone();
            let declared = this_call.unwrap_or_else(|| self.probing.declared());
            let mut keys = declared.iter().map(|target| &target.key);
            let reports = self.environment.probes.reports(&mut keys);
            let known = reports.into_iter().zip(&*declared);
            let known = known.map(|(report, target)| report.filter(|_| self.knows(target.key.peer)));
            known.map(|report| report.map(report_out)).collect()
        });
        Ok(self.probe_outcome("probe.reports", outcome))
    }
}

impl HostState {
    /// That nothing can be probed on this node costs nobody its peers: a policy has to be able to go on without.
    fn probe_outcome<T>(&mut self, capability: &str, outcome: Result<T, Error>) -> Result<T, Error> {
        match outcome {
            Err(Error::Unavailable(reason)) => {
                tracing::debug!(plugin = self.plugin, capability, reason, "nothing can be probed");
                Err(Error::Unavailable(reason))
            }
            outcome => self.outcome(capability, outcome),
        }
    }

    fn knows(&mut self, peer: PeerId) -> bool {
        self.call.peers.get_mut(peer).is_some() || self.probing.lease(peer).is_some()
    }

    fn check_probing(&self) -> Result<(), Error> {
        if let Function::Register | Function::Retire = self.call.function {
            let function = self.call.function.name();
            return Err(Error::Denied(format!("in {function} there are no peers to be probed")));
        }
        Ok(())
    }

    /// The devices that targets are probed over.
    fn devices_of(&self, targets: &[wit::Target]) -> wasmtime::Result<Vec<Option<Device>>> {
        let device = |target: &wit::Target| target.over.as_ref().map(|over| self.device(over)).transpose();
        targets.iter().map(device).collect()
    }

    fn checked_targets(
        &mut self,
        targets: &[wit::Target],
        devices: Vec<Option<Device>>,
    ) -> Result<Arc<[ProbeTarget]>, Error> {
        self.check_probing()?;
        let (count, most) = (targets.len(), self.limits.probes);
        if count > most {
            return Err(Error::LimitExceeded(format!("{count} targets; at most {most}")));
        }
        let mut known = HashSet::with_capacity(count);
        let mut checked = Vec::with_capacity(count);
        for (target, device) in targets.iter().zip(devices) {
            let target = self.checked_target(target, device.as_ref())?;
            if !known.insert(target.key.clone()) {
                return Err(Error::InvalidArgument(format!("{} is there twice", shown(&target.key))));
            }
            checked.push(target);
        }
        for family in [Family::Ipv4, Family::Ipv6] {
            let ipv4 = family == Family::Ipv4;
            if checked.iter().any(|target| target.key.address.is_ipv4() == ipv4)
                && let Some(reason) = self.environment.probes.unavailable(ipv4)
            {
                return Err(Error::Unavailable(reason));
            }
        }
        Ok(checked.into())
    }

    fn checked_target(
        &mut self,
        target: &wit::Target,
        device: Option<&Device>,
    ) -> Result<ProbeTarget, Error> {
        let (key, lease) = self.checked_key(target, device)?;
        let invalid = |text: String| Err(Error::InvalidArgument(format!("{}: {text}", shown(&key))));
        if !INTERVALS.contains(&target.interval) {
            let (least, most) = INTERVALS.into_inner();
            return invalid(format!(
                "an interval of {} ms is not between {least} and {most}",
                target.interval
            ));
        }
        for (count, what) in [(target.lost_after, "lost-after"), (target.back_after, "back-after")] {
            if !IN_A_ROW.contains(&count) {
                let (least, most) = IN_A_ROW.into_inner();
                return invalid(format!("{what} is {count}, which is not between {least} and {most}"));
            }
        }
        let in_a_row = |count: u32| u8::try_from(count).unwrap_or(u8::MAX);
        let ipv4 = key.address.is_ipv4();
        let is_inner = lease.is_some_and(|lease| is_inner(&lease, key.address));
        let mut own = self.own.iter().flat_map(Subnets::iter);
        let source = own.find(|subnet| is_inner && subnet.addr().is_ipv4() == ipv4);
        Ok(ProbeTarget {
            source: source.map(|subnet| subnet.network()),
            interval: Duration::from_millis(target.interval.into()),
            lost_after: in_a_row(target.lost_after),
            back_after: in_a_row(target.back_after),
            key,
        })
    }

    /// Which target it is, and the peer's lease, if the plugin knows the peer.
    fn checked_key(
        &mut self,
        target: &wit::Target,
        device: Option<&Device>,
    ) -> Result<(ProbeKey, Option<Arc<Lease>>), Error> {
        let (peer, address) = (PeerId(target.peer), convert::address(target.address));
        let of_call = self.call.peers.get_mut(peer).map(|known| Arc::clone(&known.lease));
        let lease = of_call.or_else(|| self.probing.lease(peer));
        if !is_host(address) {
            return Err(Error::InvalidArgument(format!("peer {peer}: {address} is no host's address")));
        }
        if let Some(lease) = lease.as_ref().filter(|lease| !belongs(lease, address)) {
            let subnets = &lease.subnets;
            return Err(Error::Denied(format!(
                "peer {peer}: {address} is not an address that the peer has published, and not in its subnet, {subnets}"
            )));
        }
        let smallest = SMALLEST[usize::from(address.is_ipv6())];
        let size = target.size.unwrap_or(smallest.into());
        let size = match u16::try_from(size) {
            Ok(size) if (smallest..=LARGEST).contains(&size) => size,
            _ => {
                return Err(Error::InvalidArgument(format!(
                    "peer {peer}, {address}: a size of {size} bytes is not between {smallest} and {LARGEST}"
                )));
            }
        };
        let over = device.map(|device| self.name_of(device));
        Ok((ProbeKey { peer, address, over, size }, lease))
    }

    fn name_of(&self, device: &Device) -> Arc<str> {
        match device {
            Device::External => self.environment.node.interface.as_str().into(),
            Device::Own(name) => Arc::clone(name),
            Device::Uplink(name) => name.as_str().into(),
        }
    }
}

fn shown(key: &ProbeKey) -> String {
    let ProbeKey { peer, address, over, size } = key;
    let over = over.as_ref().map(|over| format!(" over {over}")).unwrap_or_default();
    format!("peer {peer}, {address}{over} with {size} bytes")
}

fn report_out(report: ProbeReport) -> wit::Figures {
    wit::Figures {
        condition: match report.condition {
            ProbeCondition::Untested => wit::Condition::Untested,
            ProbeCondition::Answered => wit::Condition::Answered,
            ProbeCondition::Lost => wit::Condition::Lost,
        },
        sent: report.sent,
        answered: report.answered,
        lost_in_a_row: report.lost_in_a_row,
        window: report.window,
        window_lost: report.window_lost,
        round_trip: report.round_trip.map(|times| wit::RoundTrip {
            least: times.least,
            mean: times.mean,
            last: times.last,
        }),
        since_answer: report.since_answer.map(millis),
        interval: u32::try_from(millis(report.interval)).unwrap_or(u32::MAX),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
