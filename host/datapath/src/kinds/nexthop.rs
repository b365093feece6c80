//! Nexthop objects: no entries of their own, but what routes go through. One serves all routes with the same next hop.

use crate::netlink::{Message, NexthopMessage, Payload, create_or_replace};
use crate::observed::{NextHop, Observation};
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

/// What a nexthop object leads to, if it is one of ours.
pub(crate) fn own_nexthop(message: &NexthopMessage) -> Option<NextHop> {
    (message.protocol == NEXTHOP_PROTOCOL).then_some(())?;
    Some(NextHop { via: message.gateway?, oif: message.oif, onlink: message.onlink })
}

/// Whether a nexthop notification is about an object of ours.
pub(crate) fn is_own(message: &NexthopMessage) -> bool {
    message.protocol == NEXTHOP_PROTOCOL
}

impl Draft<'_> {
    pub(super) fn nexthop_for(&mut self, hop: NextHop) -> u32 {
        if let Some(id) = self.planner.kernel.nexthop_to(&hop).or_else(|| self.made.get(&hop).copied()) {
            return id;
        }
        // The numbers run out after some four thousand million objects; the kernel refuses the last one a second time.
        let id = self.planner.kernel.free_nexthops(self.next).next().unwrap_or(u32::MAX);
        self.next = id;
        self.made.insert(hop, id);
        let message = create_or_replace(Payload::NewNexthop(nexthop(id, &hop)));
        self.step(Stage::PutNexthop, None, message, Observation::Nexthop(id, Some(hop)));
        id
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
