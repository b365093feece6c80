//! The ground on which a change of the backend tries its new ways: a routing table that only marked packets look into, the node's own `.0`
//! addresses, from which they are sent, and devices that take packets by either way. All of it goes with the change.

mod loose;

use std::collections::BTreeSet;

use ipnet::IpNet;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Rt};
use tracing::{info, warn};

use crate::kinds::route;
use crate::kinds::trial_route::{self, TRIAL_PROTOCOL};
use crate::links;
use crate::netlink::{Message, NetlinkError, Payload, RequestSocket, create, create_or_replace};
pub(crate) use loose::LoosePaths;

/// Where the numbers of the tables begin; a hash of the cluster's networks is added, so that several daemons of a host have tables of their
/// own, and each finds what a run before has left.
const FIRST_TABLE: u32 = 0x666c_0000;
/// Where the marks begin, and how many there are. They are compared in full; the bits stay clear of those that kube-proxy (0x4000, 0x8000),
/// Calico (0xffff0000), Cilium (0x0f00) and the CNI plugins (0x80, 0x2000) look at.
const FIRST_MARK: u32 = 0x1040;
const MARKS: u32 = 0x20;
/// The rule comes before those that people make, and after that for local addresses.
const PRIORITY: u32 = 10;

/// What is there for trials, as long as a change goes on.
pub(crate) struct Trial {
    table: u32,
    mark: u32,
    /// The cluster's. What tunnels send has the mark, too, and must find its way outside of them.
    networks: Vec<IpNet>,
    /// The node's own `.0` addresses.
    addresses: BTreeSet<IpNet>,
    loose: LoosePaths,
}

impl Trial {
    /// The number of the table of a cluster with these networks.
    fn table(networks: &[IpNet]) -> u32 {
        FIRST_TABLE + spread(networks)
    }

    /// Makes it. `addresses`: the node's own. `loose`: what is changed of others' things. The error says what is in the way, with that.
    pub(crate) fn begin(
        socket: &mut RequestSocket,
        networks: &[IpNet],
        addresses: BTreeSet<IpNet>,
        loose: LoosePaths,
    ) -> Result<Self, (String, LoosePaths)> {
        match Self::ground(socket, networks) {
            Ok((table, mark)) => Ok(Self { table, mark, networks: networks.to_vec(), addresses, loose }),
            Err(reason) => Err((reason, loose)),
        }
    }

    /// The table, which has to be free, and a mark that is.
    fn ground(socket: &mut RequestSocket, networks: &[IpNet]) -> Result<(u32, u32), String> {
        let failed = |error: NetlinkError| error.to_string();
        let table = Self::table(networks);
        let others = others_routes(socket, table).map_err(failed)?;
        if others > 0 {
            return Err(format!(
                "the routing table {table} has {others} routes that are not flanneld's: remove them (`ip route flush table {table}`)"
            ));
        }
        let mark = free_mark(socket, table).map_err(failed)?;
        Ok((table, mark))
    }

    /// The number of its table.
    pub(crate) fn number(&self) -> u32 {
        self.table
    }

    /// What packets that are to go by the table are marked with.
    pub(crate) fn mark(&self) -> u32 {
        self.mark
    }

    /// Makes it so, if it is not.
    pub(crate) fn ensure(&mut self, socket: &mut RequestSocket, devices: &[String]) -> Result<(), String> {
        let failed = |error: NetlinkError| error.to_string();
        for network in &self.networks {
            let end = trial_route::dead_end(self.table, network);
            socket.execute(create_or_replace(Payload::Route(Rt::NewRoute(end)))).map_err(failed)?;
            match socket.execute(create(Payload::Route(Rt::NewRule(rule(self.table, self.mark, network))))) {
                Err(error) if !error.is(libc::EEXIST) => return Err(failed(error)),
                _ => {}
            }
        }
        let loopback = links::find(socket, "lo").map_err(failed)?.link;
        let Some(loopback) = loopback else { return Err("there is no loopback interface".to_owned()) };
        // What is added is on the disk before.
        self.loose.note_addresses(&self.addresses);
        links::add_addresses(socket, loopback.index, &self.addresses).map_err(failed)?;
        self.loose.loosen(devices);
        if self.networks.iter().any(|network| network.addr().is_ipv6()) {
            self.loose.answer_as_asked();
        }
        Ok(())
    }

    /// Removes it, as [`clear`] does.
    pub(crate) fn end(self, socket: &mut RequestSocket) -> Option<LoosePaths> {
        clear(socket, &self.networks, self.loose)
    }
}

/// A number of 16 bits for a cluster with these networks.
pub(crate) fn spread(networks: &[IpNet]) -> u32 {
    // FNV-1a.
    let text: String = networks.iter().map(ToString::to_string).collect();
    let hash =
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash >> 16) ^ (hash & 0xffff)
}

/// Puts back what was changed of others' things, unless another daemon of this host is in the middle of a change: it may have found devices
/// loose, and knows nothing of what they were before. Answers what is to be put back when that one is done.
pub(crate) fn put_back(
    socket: &mut RequestSocket,
    networks: &[IpNet],
    mut loose: LoosePaths,
) -> Option<LoosePaths> {
    let table = Trial::table(networks);
    let of_another =
        |rule: &RuleMessage| protocol_of(rule) == Some(TRIAL_PROTOCOL) && table_of(rule) != table;
    let others_change =
        [true, false].into_iter().any(|ipv4| rules(socket, ipv4).is_ok_and(|all| all.iter().any(of_another)));
    if others_change && loose.has_settings() {
        loose.forget_addresses();
        return Some(loose);
    }
    loose.restore();
    None
}

/// Removes what there is of a change, of this run or of one before. Answers what is to be put back later: see [`put_back`].
pub(crate) fn clear(socket: &mut RequestSocket, networks: &[IpNet], loose: LoosePaths) -> Option<LoosePaths> {
    let table = Trial::table(networks);
    let addresses = loose.addresses();
    if let Ok(Some(loopback)) = links::find(socket, "lo").map(|found| found.link)
        && let Err(error) = links::remove_addresses(socket, loopback.index, &addresses)
    {
        warn!(%error, "the addresses that were needed for a change of the backend cannot be removed");
    }
    for ipv4 in [true, false] {
        if let Err(error) = clear_family(socket, table, ipv4) {
            warn!(%error, table, "what was needed for a change of the backend cannot be removed");
        }
    }
    put_back(socket, networks, loose)
}

fn clear_family(socket: &mut RequestSocket, table: u32, ipv4: bool) -> Result<(), NetlinkError> {
    for found in rules(socket, ipv4)? {
        if table_of(&found) == table && protocol_of(&found) == Some(TRIAL_PROTOCOL) {
            socket.execute(Message::plain(Payload::Route(Rt::DelRule(found))))?;
            info!(table, "the rule for a change of the backend is removed");
        }
    }
    let routes = socket.dump(&trial_route::all_routes(table, ipv4)).unwrap_or_default();
    let mut gone = Vec::new();
    for found in routes {
        let Payload::Route(Rt::NewRoute(route)) = found else { continue };
        if route_table(&route) == table && u8::from(route.header.protocol) == TRIAL_PROTOCOL {
            gone.push(Message::plain(Payload::Route(Rt::DelRoute(route::without_hops(route)))));
        }
    }
    // What goes meanwhile is gone.
    let _ = socket.batch(gone);
    Ok(())
}

fn route_table(route: &netlink_packet_route::route::RouteMessage) -> u32 {
    use netlink_packet_route::route::RouteAttribute;
    let numbered = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    numbered.unwrap_or_else(|| u32::from(route.header.table))
}

fn rule(table: u32, mark: u32, network: &IpNet) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = if network.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    rule.header.dst_len = network.prefix_len();
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![
        RuleAttribute::Destination(network.network()),
        RuleAttribute::Table(table),
        RuleAttribute::FwMark(mark),
        RuleAttribute::FwMask(u32::MAX),
        RuleAttribute::Priority(PRIORITY),
        RuleAttribute::Protocol(RouteProtocol::Other(TRIAL_PROTOCOL)),
    ];
    rule
}

fn rules(socket: &mut RequestSocket, ipv4: bool) -> Result<Vec<RuleMessage>, NetlinkError> {
    let mut request = RuleMessage::default();
    request.header.family = if ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let found = socket.dump(&Payload::Route(Rt::GetRule(request)))?;
    Ok(found
        .into_iter()
        .filter_map(|payload| match payload {
            Payload::Route(Rt::NewRule(rule)) => Some(rule),
            _ => None,
        })
        .collect())
}

fn table_of(rule: &RuleMessage) -> u32 {
    let numbered = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    });
    numbered.unwrap_or_else(|| u32::from(rule.header.table))
}

fn protocol_of(rule: &RuleMessage) -> Option<u8> {
    rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Protocol(protocol) => Some((*protocol).into()),
        _ => None,
    })
}

fn mark_of(rule: &RuleMessage) -> Option<u32> {
    rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::FwMark(mark) => Some(*mark),
        _ => None,
    })
}

/// A mark that no rule of somebody else's looks for.
fn free_mark(socket: &mut RequestSocket, table: u32) -> Result<u32, NetlinkError> {
    let mut all = rules(socket, true)?;
    all.extend(rules(socket, false).unwrap_or_default());
    if let Some(mark) = all.iter().filter(|rule| table_of(rule) == table).find_map(mark_of) {
        return Ok(mark);
    }
    let taken: BTreeSet<u32> = all.iter().filter_map(mark_of).collect();
    let first = table % MARKS;
    let mut marks = (0..MARKS).map(|n| FIRST_MARK + (first + n) % MARKS);
    marks.find(|mark| !taken.contains(mark)).ok_or_else(|| {
        NetlinkError::NotOurs(format!(
            "ip rules have all marks from {FIRST_MARK:#x} to {:#x}: free one of them",
            FIRST_MARK + MARKS - 1
        ))
    })
}

/// How many routes the table has that are not ours.
fn others_routes(socket: &mut RequestSocket, table: u32) -> Result<usize, NetlinkError> {
    let mut count = 0;
    for ipv4 in [true, false] {
        // A table that nobody has used is not there (ENOENT).
        let found = match socket.dump(&trial_route::all_routes(table, ipv4)) {
            Err(error) if error.is(libc::ENOENT) => continue,
            other => other?,
        };
        let foreign = |found: &&Payload| match found {
            Payload::Route(Rt::NewRoute(route)) => {
                route_table(route) == table && u8::from(route.header.protocol) != TRIAL_PROTOCOL
            }
            _ => false,
        };
        count += found.iter().filter(foreign).count();
    }
    Ok(count)
}
