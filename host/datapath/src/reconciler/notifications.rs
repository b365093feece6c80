//! What the kernel tells of by itself: taken into the mirror, and noted where it has to be looked at.

use std::time::Instant;

use netlink_packet_route::RouteNetlinkMessage as Rt;
use netlink_packet_route::address::AddressScope;
use tracing::{info, warn};

use super::{Event, Reconciler, policy};
use crate::netlink::{Drained, Payload};
use crate::observed::{Link, Route, usual_metric};
use crate::{kinds, links};

impl Reconciler {
    /// Reads the notifications into the mirror, and notes what has to be looked at.
    pub(super) fn ingest_notifications(&mut self) {
        let mut drained = Drained::default();
        if let Err(error) = self.notifications.drain(self.requests.port(), &mut drained) {
            warn!(%error, "notifications cannot be read: looking at everything");
            drained.lost = true;
        }
        if drained.lost {
            info!("the kernel dropped notifications: looking at everything");
            self.dirty.everything = true;
        }
        self.figures.notifications += drained.messages.len() as u64;
        for message in drained.messages {
            self.ingest(&message);
        }
    }

    fn ingest(&mut self, message: &Payload) {
        match message {
            Payload::Route(Rt::NewLink(link) | Rt::DelLink(link)) => {
                let gone = matches!(message, Payload::Route(Rt::DelLink(_)));
                self.ingest_link(&links::read_link(link), gone);
            }
            Payload::Route(Rt::NewAddress(address) | Rt::DelAddress(address)) => {
                if self.kernel.own_device(address.header.index).is_some() {
                    self.dirty.everything = true;
                } else if self.kernel.external.as_ref().is_some_and(|l| l.index == address.header.index) {
                    self.dirty.everything = true;
                    let _ = self.events.send(Event::Reachability);
                } else if self.ingest_uplink_address(address.header.index) {
                    // Who can be reached from there is another matter now.
                    let _ = self.events.send(Event::Surroundings);
                } else if address.header.scope == AddressScope::Universe {
                    let _ = self.events.send(Event::Surroundings);
                }
            }
            // With a nexthop object all routes that use it go, and no notification says so.
            Payload::NewNexthop(nexthop) | Payload::DelNexthop(nexthop) => {
                let known = self.kernel.nexthop(nexthop.id);
                if kinds::nexthop::own_nexthop(nexthop, &self.kernel).is_some() || known.is_some() {
                    self.dirty.everything = true;
                } else if matches!(message, Payload::NewNexthop(_)) {
                    self.kernel.foreign_nexthops.insert(nexthop.id);
                }
            }
            _ => match kinds::read(&self.kernel, &self.networks, message) {
                Some(fact) => {
                    let key = kinds::key_of(&self.kernel, &fact);
                    let (wanted, stray) = (
                        key.clone().filter(|key| self.ledger.entry(key).is_some()),
                        self.prune && kinds::is_stray(&self.kernel, &self.networks, &fact),
                    );
                    self.dirty.keys.extend(wanted.or(key.filter(|_| stray)));
                    self.ingest_for_policy_routes(&fact);
                    self.kernel.record(fact);
                }
                None => self.ingest_other_route(message),
            },
        }
    }

    /// A route that is not ours, over the external interface, may change which peers are on the link.
    fn ingest_other_route(&mut self, message: &Payload) {
        let (Payload::Route(Rt::NewRoute(route) | Rt::DelRoute(route)), Some(external)) =
            (message, &self.kernel.external)
        else {
            return;
        };
        let is_over_external = |(destination, route): (_, Route)| {
            route.oif == external.index && route.metric == usual_metric(&destination)
        };
        if kinds::route::read_route(route).is_some_and(is_over_external) {
            let _ = self.events.send(Event::Reachability);
            // A gateway that could not be reached may be reached now.
            let now = Instant::now();
            self.failures.values_mut().for_each(|failure| failure.again = failure.again.min(now));
        }
    }

    fn ingest_link(&mut self, observed: &links::Observed, gone: bool) {
        let Some(link) = &observed.link else { return };
        let external = observed.name == *self.external
            || self.kernel.external.as_ref().is_some_and(|known| known.index == link.index);
        if external && (gone || self.kernel.external.as_ref() != Some(link)) {
            if gone
                || self.depends_on_carriers()
                || !policy::is_alike(self.kernel.external.as_ref(), Some(link))
            {
                self.dirty.everything = true;
            } else {
                self.kernel.external = Some(link.clone());
            }
        }
        self.ingest_uplink(&observed.name, link, gone);
        // A device of ours never counts as one without a carrier.
        let link = &Link { carrier: true, ..link.clone() };
        let known = self.kernel.own_device(link.index).and_then(|name| self.kernel.links.get(name));
        let named = self.ledger.devices().any(|device| **device.name() == *observed.name);
        // A bridge takes the packets of its ports.
        if (known.is_some() || named) && (gone || known != Some(link) || observed.master.is_some()) {
            self.dirty.everything = true;
        }
    }
}
