//! Nexthop objects: no entries of their own, but what routes go through. One serves all routes with the same next hop.

use crate::netlink::{Message, NexthopMessage, Payload, create};
use crate::observed::{NextHop, Observation, ObservedState};
use crate::plan::{Draft, Stage};

/// The protocol number that marks our nexthop objects: unassigned in the kernel and in iproute2's `rt_protos`.
const NEXTHOP_PROTOCOL: u8 = 119;

/// A nexthop object of ours.
fn nexthop(id: u32, hop: &NextHop) -> NexthopMessage {
    NexthopMessage {
        family: if hop.via.is_ipv4() { 2 } else { 10 },
        protocol: NEXTHOP_PROTOCOL,
        onlink: hop.onlink,
        id,
        oif: hop.oif,
        gateway: Some(hop.via),
    }
}

/// What a nexthop object leads to, if it is one of ours: with our mark, over a device of ours. Another daemon has others.
pub(crate) fn own_nexthop(message: &NexthopMessage, kernel: &ObservedState) -> Option<NextHop> {
    let is_own = message.protocol == NEXTHOP_PROTOCOL && kernel.own_device(message.oif).is_some();
    let via = message.gateway.filter(|_| is_own)?;
    Some(NextHop { via, oif: message.oif, onlink: message.onlink })
}

impl Draft<'_> {
    /// The number of the object for a next hop; none if the device has had all of its numbers.
    pub(super) fn nexthop_for(&mut self, hop: NextHop) -> Option<u32> {
        let known = self.planner.kernel.nexthop_to(&hop).or_else(|| self.made.get(&hop).copied());
        if known.is_some() {
            return known;
        }
        let id = self.planner.kernel.free_nexthop(hop.oif, self.last_made.get(&hop.oif).copied())?;
        self.last_made.insert(hop.oif, id);
        self.made.insert(hop, id);
        let message = create(Payload::NewNexthop(nexthop(id, &hop)));
        self.step(Stage::PutNexthop, None, message, Observation::Nexthop(id, Some(hop)));
        Some(id)
    }

    pub(crate) fn retire(&mut self, id: u32) {
        if self.gaining.contains(&id) {
            return;
        }
        let message = NexthopMessage { id, ..NexthopMessage::default() };
        self.step(
            Stage::DeleteNexthop,
            None,
            Message::plain(Payload::DelNexthop(message)),
            Observation::Nexthop(id, None),
        );
    }
}
