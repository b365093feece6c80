//! The numbers of the tables that a plugin has of its own, and what an earlier run has left in others.

use flannel_model::policy_routing::TABLES;
use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage as Rt;
use netlink_packet_route::rule::RuleAttribute;
use tracing::{info, warn};

use crate::kinds::rule::Interfaces;
use crate::kinds::{policy_route, route, rule};
use crate::netlink::{Message, NetlinkError, Payload, RequestSocket};
use crate::trial::spread;

/// The protocol number of routes and rules with attributes: unassigned in the kernel and in iproute2's `rt_protos`.
pub(crate) const PROTOCOL: u8 = 119;
/// Where the numbers of the tables begin, which are those of all daemons of all clusters: 2^16 times [`TABLES`].
const FIRST_TABLE: u32 = 0x6670_0000;
const LAST_TABLE: u32 = FIRST_TABLE + 0xf_ffff;

/// The tables of one daemon: a hash of the cluster's networks says where they begin, so that several daemons of a host have tables of their
/// own, and each finds what a run before has made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PolicyTables {
    first: u32,
}

impl PolicyTables {
    /// Those of a cluster with these networks.
    pub(crate) fn of(networks: &[IpNet]) -> Self {
        Self { first: FIRST_TABLE + spread(networks) * u32::from(TABLES) }
    }

    /// The number of a table of the plugin's.
    pub(crate) fn number(self, table: u8) -> u32 {
        self.first + u32::from(table)
    }

    /// Which table of the plugin's has this number; none: it is none of them.
    pub(crate) fn table(self, number: u32) -> Option<u8> {
        let table = u8::try_from(number.checked_sub(self.first)?).ok()?;
        (table < TABLES).then_some(table)
    }
}

/// Removes what is in tables that were this cluster's, when it had other networks, and is not in those that are by now: rules and routes with our
/// protocol, for networks that no other cluster of this host can have.
pub(crate) fn clear_former(
    socket: &mut RequestSocket,
    tables: PolicyTables,
    interfaces: &Interfaces,
    networks: &[IpNet],
) {
    for ipv4 in [true, false] {
        if networks.iter().any(|network| network.addr().is_ipv4() == ipv4)
            && let Err(error) = clear_family(socket, tables, interfaces, networks, ipv4)
        {
            warn!(%error, "routing tables that were used before cannot be cleared");
        }
    }
}

fn clear_family(
    socket: &mut RequestSocket,
    tables: PolicyTables,
    interfaces: &Interfaces,
    networks: &[IpNet],
    ipv4: bool,
) -> Result<(), NetlinkError> {
    let is_former =
        |number: u32| (FIRST_TABLE..=LAST_TABLE).contains(&number) && tables.table(number).is_none();
    let mut gone = Vec::new();
    for found in absent_is_empty(socket.dump(&rule::all_rules(ipv4)))? {
        let Payload::Route(Rt::NewRule(found)) = found else { continue };
        let number = found.attributes.iter().find_map(|attribute| match attribute {
            RuleAttribute::Table(number) => Some(*number),
            _ => None,
        });
        // As its own daemon would read it.
        let former = number
            .filter(|number| is_former(*number))
            .map(|number| PolicyTables { first: number - (number - FIRST_TABLE) % u32::from(TABLES) });
        if former.is_some_and(|former| rule::read(&found, networks, former, interfaces).is_some()) {
            gone.push(Message::plain(Payload::Route(Rt::DelRule(found))));
        }
    }
    for found in absent_is_empty(socket.dump(&policy_route::all_routes(ipv4)))? {
        let Payload::Route(Rt::NewRoute(message)) = found else { continue };
        let is_left = route::read_any(&message).is_some_and(|(number, destination, route)| {
            route.protocol == PROTOCOL
                && is_former(number)
                && networks.iter().any(|network| network.contains(&destination))
        });
        if is_left {
            gone.push(Message::plain(Payload::Route(Rt::DelRoute(route::without_hops(message)))));
        }
    }
    if !gone.is_empty() {
        info!(
            entries = gone.len(),
            "routes and rules of a network that was this cluster's before are removed"
        );
        // What goes meanwhile is gone.
        let _ = socket.batch(gone);
    }
    Ok(())
}

/// A kernel without rules, or without a family, has none.
fn absent_is_empty(found: Result<Vec<Payload>, NetlinkError>) -> Result<Vec<Payload>, NetlinkError> {
    match found {
        Err(error)
            if error.is(libc::EOPNOTSUPP) || error.is(libc::EAFNOSUPPORT) || error.is(libc::ENOENT) =>
        {
            Ok(Vec::new())
        }
        other => other,
    }
}
