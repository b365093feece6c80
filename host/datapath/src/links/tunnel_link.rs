//! GRE, Geneve, IP in IP and VLAN devices. Each is a list of options, as the kernel takes them and shows them. The devices that the kernel makes by
//! itself (`gre0`, `gretap0`, `sit0`, `tunl0`, `ip6tnl0`, `ip6gre0`) have other names, and are never touched.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use flannel_base::Family;
use flannel_model::tunnel_link::{Payload as Carried, TunnelKind, TunnelLink, UdpKind, Way};
use netlink_packet_core::{DefaultNla, Emitable, NLM_F_CREATE, NLM_F_EXCL, Nla, NlasIterator};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage};

use super::{Corrections, Differences, Observed};
use crate::netlink::{Message, Payload};

/// Numbers of options (`linux/if_tunnel.h`, `linux/if_link.h`). What is there for both, GRE and IP in IP, has two.
mod number {
    pub(super) const LINK: u16 = 1;
    pub(super) const GRE_INPUT_FLAGS: u16 = 2;
    pub(super) const GRE_OUTPUT_FLAGS: u16 = 3;
    pub(super) const GRE_INPUT_KEY: u16 = 4;
    pub(super) const GRE_OUTPUT_KEY: u16 = 5;
    pub(super) const IP_PROTOCOL: u16 = 9;
    pub(super) const GENEVE_REMOTE: u16 = 2;
    pub(super) const GENEVE_PORT: u16 = 5;
    pub(super) const GENEVE_EXTERNAL: u16 = 6;
    pub(super) const GENEVE_REMOTE6: u16 = 7;
    pub(super) const VLAN_ID: u16 = 1;
    pub(super) const VLAN_PROTOCOL: u16 = 5;
}

/// Numbers of what GRE and IP in IP both have.
struct Common {
    local: u16,
    remote: u16,
    udp_kind: u16,
    udp_source: u16,
    udp_destination: u16,
    external: u16,
}

const GRE: Common =
    Common { local: 6, remote: 7, udp_kind: 14, udp_source: 16, udp_destination: 17, external: 18 };
const IP: Common =
    Common { local: 2, remote: 3, udp_kind: 15, udp_source: 17, udp_destination: 18, external: 19 };

/// The flag of a GRE header that says that there is a key (`GRE_KEY`), as bytes of the network's order.
const HAS_KEY: u16 = 0x2000;
/// Internet protocol numbers.
const IPV4: u8 = 4;
const IPV6: u8 = 41;

/// An option of a device.
struct Choice {
    number: u16,
    /// Of the network's or the host's byte order, as the kernel has it.
    value: Vec<u8>,
    name: &'static str,
    shown: fn(&[u8]) -> String,
}

impl Choice {
    fn new(number: u16, name: &'static str, value: Vec<u8>, shown: fn(&[u8]) -> String) -> Self {
        Self { number, value, name, shown }
    }

    fn address(number: u16, name: &'static str, address: IpAddr) -> Self {
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        Self::new(number, name, octets, shown_address)
    }

    fn index(number: u16, name: &'static str, index: u32) -> Self {
        Self::new(number, name, index.to_ne_bytes().to_vec(), shown_number)
    }

    fn port(number: u16, name: &'static str, port: u16) -> Self {
        Self::new(number, name, port.to_be_bytes().to_vec(), shown_in_network_order)
    }

    /// One that is there, or is not: it has no value.
    fn flag(number: u16, name: &'static str) -> Self {
        Self::new(number, name, Vec::new(), |_| "on".to_owned())
    }

    /// The same as what is there. An option that the kernel does not report is off.
    fn is(&self, found: Option<&Vec<u8>>) -> bool {
        match found {
            Some(found) => *found == self.value || is_zero(found) && is_zero(&self.value),
            None => is_zero(&self.value) && !self.value.is_empty(),
        }
    }

    /// What is there, in the words of the log.
    fn shown(&self, found: Option<&Vec<u8>>) -> String {
        found.map_or("none".to_owned(), |found| (self.shown)(found))
    }
}

fn is_zero(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == 0)
}

fn shown_address(octets: &[u8]) -> String {
    if is_zero(octets) {
        return "none".to_owned();
    }
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
    address.map_or_else(|_| format!("{octets:02x?}"), |address| address.to_string())
}

fn shown_number(octets: &[u8]) -> String {
    match octets {
        [one] => one.to_string(),
        [one, two] => u16::from_ne_bytes([*one, *two]).to_string(),
        [one, two, three, four] => u32::from_ne_bytes([*one, *two, *three, *four]).to_string(),
        _ => format!("{octets:02x?}"),
    }
}

fn shown_in_network_order(octets: &[u8]) -> String {
    octets.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)).to_string()
}

fn shown_udp(octets: &[u8]) -> String {
    match octets {
        [one, two] => match u16::from_ne_bytes([*one, *two]) {
            0 => "none".to_owned(),
            1 => UdpKind::Fou.to_string(),
            2 => UdpKind::Gue.to_string(),
            other => other.to_string(),
        },
        _ => format!("{octets:02x?}"),
    }
}

fn shown_flags(octets: &[u8]) -> String {
    format!("{octets:02x?}")
}

fn shown_ethertype(octets: &[u8]) -> String {
    match octets {
        [one, two] => format!("{:04x}", u16::from_be_bytes([*one, *two])),
        _ => format!("{octets:02x?}"),
    }
}

/// What the kernel calls an encapsulation (`TUNNEL_ENCAP_FOU` and so on).
fn udp_number(kind: UdpKind) -> u16 {
    match kind {
        UdpKind::Fou => 1,
        UdpKind::Gue => 2,
    }
}

/// What is to be, all of which only a new device can have.
fn choices(wanted: &TunnelLink, parent: u32) -> Vec<Choice> {
    match &wanted.kind {
        TunnelKind::Gre { way, key } => {
            let flags = key.map_or(0, |_| HAS_KEY).to_be_bytes().to_vec();
            let value = key.unwrap_or(0).to_be_bytes().to_vec();
            let mut choices = of_way(&GRE, way, parent);
            choices.extend([
                Choice::new(number::GRE_INPUT_FLAGS, "flags of what comes in", flags.clone(), shown_flags),
                Choice::new(number::GRE_OUTPUT_FLAGS, "flags of what leaves", flags, shown_flags),
                Choice::new(number::GRE_INPUT_KEY, "key", value.clone(), shown_in_network_order),
                Choice::new(number::GRE_OUTPUT_KEY, "key of what leaves", value, shown_in_network_order),
            ]);
            choices
        }
        TunnelKind::Gretap { family, .. } => of_way(&GRE, &Way::Route { family: *family }, parent),
        TunnelKind::Geneve { port, .. } => vec![
            Choice::port(number::GENEVE_PORT, "port", *port),
            Choice::flag(number::GENEVE_EXTERNAL, "external"),
            Choice::address(number::GENEVE_REMOTE, "remote", Ipv4Addr::UNSPECIFIED.into()),
            Choice::address(number::GENEVE_REMOTE6, "remote", std::net::Ipv6Addr::UNSPECIFIED.into()),
        ],
        TunnelKind::IpTunnel { way, carries } => {
            let protocol = match carries {
                Carried::Ipv4 => IPV4,
                Carried::Ipv6 => IPV6,
                Carried::Both => 0,
            };
            let mut choices = of_way(&IP, way, parent);
            choices.push(Choice::new(number::IP_PROTOCOL, "protocol", vec![protocol], shown_number));
            choices
        }
        TunnelKind::Vlan { id, protocol } => vec![
            Choice::new(number::VLAN_ID, "id", id.to_ne_bytes().to_vec(), shown_number),
            Choice::new(
                number::VLAN_PROTOCOL,
                "protocol",
                protocol.ethertype().to_be_bytes().to_vec(),
                shown_ethertype,
            ),
        ],
    }
}

fn of_way(numbers: &Common, way: &Way, parent: u32) -> Vec<Choice> {
    let any: IpAddr = match way.family() {
        Family::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::Ipv6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut choices = vec![Choice::address(numbers.remote, "remote", any)];
    match way {
        Way::Route { .. } => {
            choices.push(Choice::flag(numbers.external, "external"));
        }
        Way::NextHop { local, udp } => {
            let kind = udp.map_or(0, |udp| udp_number(udp.kind));
            choices.extend([
                Choice::address(numbers.local, "local address", (*local).into()),
                Choice::index(number::LINK, "underlying link", parent),
                Choice::new(numbers.udp_kind, "encapsulation", kind.to_ne_bytes().to_vec(), shown_udp),
                // By flows: the kernel chooses.
                Choice::port(numbers.udp_source, "encapsulation's source port", 0),
                Choice::port(numbers.udp_destination, "port", udp.map_or(0, |udp| udp.port)),
            ]);
        }
    }
    choices
}

/// Number of the option that makes a device of this kind external.
fn external(kind: &InfoKind) -> Option<u16> {
    match kind {
        InfoKind::GreTun | InfoKind::GreTun6 | InfoKind::GreTap | InfoKind::GreTap6 => Some(GRE.external),
        InfoKind::IpIp | InfoKind::Ip6Tnl | InfoKind::SitTun => Some(IP.external),
        InfoKind::Geneve => Some(number::GENEVE_EXTERNAL),
        _ => None,
    }
}

/// As the kernel calls the kind of a device.
pub(super) fn kind(wanted: &TunnelLink) -> (InfoKind, &'static str) {
    match wanted.kind_name() {
        "gre" => (InfoKind::GreTun, "a GRE device"),
        "ip6gre" => (InfoKind::GreTun6, "a GRE device over IPv6"),
        "gretap" => (InfoKind::GreTap, "a GRETAP device"),
        "ip6gretap" => (InfoKind::GreTap6, "a GRETAP device over IPv6"),
        "geneve" => (InfoKind::Geneve, "a Geneve device"),
        "ipip" => (InfoKind::IpIp, "an IPIP device"),
        "sit" => (InfoKind::SitTun, "a SIT device"),
        "ip6tnl" => (InfoKind::Ip6Tnl, "a device for IP in IPv6"),
        _ => (InfoKind::Vlan, "a VLAN"),
    }
}

/// The kernel module that has such devices, and since which version of Linux it does what is asked for.
pub(super) fn module(wanted: &TunnelLink) -> (&'static str, &'static str) {
    let external = wanted.is_external();
    match wanted.kind_name() {
        "gre" if external => ("ip_gre", "4.3"),
        "gre" => ("ip_gre", "2.2"),
        "gretap" => ("ip_gre", "4.3"),
        "ip6gre" | "ip6gretap" => ("ip6_gre", "4.16"),
        "geneve" => ("geneve", "4.3"),
        "ipip" if external => ("ipip", "4.9"),
        "ipip" => ("ipip", "2.2"),
        "sit" => ("sit", "2.2"),
        "ip6tnl" => ("ip6_tunnel", "4.9"),
        _ => ("8021q", "3.10"),
    }
}

/// The request that makes the device.
pub(super) fn create(wanted: &TunnelLink, parent: u32) -> Message {
    let mut options = Vec::new();
    for choice in choices(wanted, parent) {
        // What is off is so without being said, but for the protocol, where it means all of them.
        if choice.value.is_empty() || !is_zero(&choice.value) || choice.number == number::IP_PROTOCOL {
            let nla = DefaultNla::new(choice.number, choice.value);
            let begin = options.len();
            options.resize(begin + nla.buffer_len(), 0);
            nla.emit(&mut options[begin..]);
        }
    }
    let mut link = LinkMessage::default();
    link.attributes.extend([
        LinkAttribute::IfName(wanted.name.to_string()),
        LinkAttribute::Mtu(wanted.mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(kind(wanted).0),
            LinkInfo::Data(InfoData::Other(options)),
        ]),
    ]);
    link.attributes.extend(wanted.mac().map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    if matches!(wanted.kind, TunnelKind::Vlan { .. }) {
        link.attributes.push(LinkAttribute::Link(parent));
    }
    Message { payload: Payload::Route(RouteNetlinkMessage::NewLink(link)), flags: NLM_F_CREATE | NLM_F_EXCL }
}

/// The options of a device that is there, by their numbers.
pub(super) fn options(found: &Observed) -> BTreeMap<u16, Vec<u8>> {
    let Some(data) = &found.data else { return BTreeMap::new() };
    let mut bytes = vec![0; data.value_len()];
    data.emit_value(&mut bytes);
    let parts = NlasIterator::new(bytes.as_slice());
    parts.filter_map(Result::ok).map(|part| (part.kind(), part.value().to_vec())).collect()
}

/// What only a new device can put right.
pub(super) fn unchangeable_differences(found: &Observed, wanted: &TunnelLink, parent: u32) -> Differences {
    let there = options(found);
    let choices = choices(wanted, parent);
    let mut differences = Differences::new();
    for choice in &choices {
        let is = there.get(&choice.number);
        if !choice.is(is) {
            let (is, should) = (choice.shown(is), choice.shown(Some(&choice.value)));
            differences.push(format!("{} is {is} instead of {should}", choice.name));
        }
    }
    let (kind, _) = kind(wanted);
    if !wanted.is_external() && external(&kind).is_some_and(|number| there.contains_key(&number)) {
        differences.push("external is on".to_owned());
    }
    if matches!(wanted.kind, TunnelKind::Vlan { .. }) && found.lower != Some(parent) {
        let is = found.lower.map_or("none".to_owned(), |index| index.to_string());
        differences.push(format!("underlying link is {is} instead of {parent}"));
    }
    differences
}

/// What can be changed on a living device, beyond what all kinds have.
pub(super) fn correct(found: &Observed, wanted: &TunnelLink, corrections: &mut Corrections) {
    let Some(wanted) = wanted.mac() else { return };
    let mac = found.link.as_ref().and_then(|link| link.mac);
    if mac != Some(wanted) {
        corrections.add(
            format!("MAC {wanted} for {}", mac.map_or("none".to_owned(), |mac| mac.to_string())),
            LinkAttribute::Address(wanted.0.to_vec()),
        );
    }
}

/// Who has what a device needs for itself: it is the only external one of its kind, or the only one with the same addresses and key. `there`: the
/// links that there are.
pub(super) fn occupied(wanted: &TunnelLink, there: &[Observed], parent: Option<u32>) -> Option<String> {
    let (kind, what) = kind(wanted);
    let others =
        || there.iter().filter(|found| found.kind.as_ref() == Some(&kind) && found.name != *wanted.name);
    let choices = choices(wanted, parent.unwrap_or(0));
    let has = |found: &Observed, names: &[&str]| {
        let there = options(found);
        let mut those = choices.iter().filter(|choice| names.contains(&choice.name));
        those.all(|choice| choice.is(there.get(&choice.number)))
    };
    match &wanted.kind {
        TunnelKind::Geneve { port, .. } => {
            let other = others().find(|found| has(found, &["port"]))?;
            Some(format!(
                "the Geneve device {} has UDP port {port}: remove it, or choose another port on all nodes",
                other.name
            ))
        }
        TunnelKind::Vlan { id, .. } => {
            let same = |found: &&Observed| {
                has(found, &["id", "protocol"]) && (parent.is_none() || found.lower == parent)
            };
            // Whose parent is not known is not said to be in the way.
            let other = parent.and_then(|_| others().find(same))?;
            Some(format!(
                "{} is VLAN {id} of this interface already: remove it, or choose another id on all nodes",
                other.name
            ))
        }
        _ if wanted.is_external() => {
            let number = external(&kind)?;
            let other = others().find(|found| options(found).contains_key(&number))?;
            Some(format!(
                "{} is {what} that is external, of which there can be one alone: remove it, or let the plugin have another kind",
                other.name
            ))
        }
        TunnelKind::Gre { .. } | TunnelKind::Gretap { .. } | TunnelKind::IpTunnel { .. } => {
            let names = ["local address", "remote", "flags of what comes in", "key"];
            let other = others().find(|found| has(found, &names))?;
            Some(format!(
                "{} is {what} with the same addresses and key, to any node: remove it, or let the plugin have another key",
                other.name
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use flannel_model::tunnel_link::{UdpEncapsulation, VlanProtocol};
    use netlink_packet_core::Emitable as _;
    use netlink_packet_core::Parseable as _;

    use super::super::read_link;
    use super::*;

    const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 11);

    fn link(kind: TunnelKind) -> TunnelLink {
        TunnelLink { name: "flannel.t".into(), mtu: 1400, kind }
    }

    fn hop(udp: Option<UdpEncapsulation>) -> Way {
        Way::NextHop { local: LOCAL, udp }
    }

    fn gre(way: Way, key: Option<u32>) -> TunnelLink {
        link(TunnelKind::Gre { way, key })
    }

    fn all() -> Vec<TunnelLink> {
        let mac = flannel_model::entry::Mac([2, 0, 0, 0, 0, 1]);
        let route = |family| Way::Route { family };
        let fou = |kind| Some(UdpEncapsulation { kind, port: 5555 });
        let mut all = vec![
            gre(hop(None), None),
            gre(hop(None), Some(7)),
            gre(hop(fou(UdpKind::Fou)), Some(7)),
            link(TunnelKind::Geneve { port: 6081, mac }),
            link(TunnelKind::Vlan { id: 5, protocol: VlanProtocol::Ieee8021Q }),
            link(TunnelKind::Vlan { id: 5, protocol: VlanProtocol::Ieee8021Ad }),
            link(TunnelKind::IpTunnel { way: hop(fou(UdpKind::Gue)), carries: Carried::Both }),
        ];
        for carries in [Carried::Ipv4, Carried::Ipv6, Carried::Both] {
            all.push(link(TunnelKind::IpTunnel { way: hop(None), carries }));
            all.push(link(TunnelKind::IpTunnel { way: route(Family::Ipv6), carries }));
        }
        for family in Family::ALL {
            all.push(gre(route(family), None));
            all.push(link(TunnelKind::Gretap { family, mac }));
        }
        all
    }

    /// A device as the kernel would show one that was asked for so.
    fn shown(wanted: &TunnelLink, parent: u32) -> Observed {
        let Payload::Route(RouteNetlinkMessage::NewLink(message)) = create(wanted, parent).payload else {
            panic!("no link")
        };
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        read_link(&LinkMessage::parse(bytes.as_slice()).expect("a link"))
    }

    #[test]
    fn what_is_asked_for_is_recognized() {
        for wanted in all() {
            let found = shown(&wanted, 3);
            assert_eq!(found.kind, Some(kind(&wanted).0), "{wanted:?}");
            assert_eq!(unchangeable_differences(&found, &wanted, 3), Differences::new(), "{wanted:?}");
            let mut corrections = Corrections::default();
            correct(&found, &wanted, &mut corrections);
            assert_eq!(corrections.differences, Differences::new(), "{wanted:?}");
        }
    }

    #[test]
    fn what_differs_is_named() {
        let wanted = gre(hop(None), Some(7));
        for (found, parent, said) in [
            (gre(hop(None), Some(8)), 3, "key is 8 instead of 7"),
            (gre(hop(None), None), 3, "flags of what comes in is none instead of [20, 00]"),
            (wanted.clone(), 4, "underlying link is 3 instead of 4"),
            (gre(Way::Route { family: Family::Ipv4 }, None), 3, "external is on"),
            (
                gre(Way::NextHop { local: Ipv4Addr::new(192, 168, 77, 12), udp: None }, Some(7)),
                3,
                "local address is 192.168.77.12 instead of 192.168.77.11",
            ),
            (
                gre(hop(Some(UdpEncapsulation { kind: UdpKind::Gue, port: 5555 })), Some(7)),
                3,
                "encapsulation is gue instead of none",
            ),
        ] {
            let differences = unchangeable_differences(&shown(&found, 3), &wanted, parent);
            assert!(differences.iter().any(|difference| difference == said), "{said}: {differences:?}");
        }
        let external = gre(Way::Route { family: Family::Ipv4 }, None);
        let differences = unchangeable_differences(&shown(&gre(hop(None), None), 3), &external, 3);
        assert_eq!(differences, ["external is none instead of on"]);
        let vlan = |id| link(TunnelKind::Vlan { id, protocol: VlanProtocol::Ieee8021Q });
        assert_eq!(
            unchangeable_differences(&shown(&vlan(5), 3), &vlan(6), 4),
            ["id is 5 instead of 6", "underlying link is 3 instead of 4"]
        );
    }

    #[test]
    fn who_has_what_is_needed_is_named() {
        let named = |device: TunnelLink| TunnelLink { name: "theirs".into(), ..device };
        for wanted in all() {
            let there = [shown(&named(wanted.clone()), 3)];
            let said = occupied(&wanted, &there, Some(3)).expect("occupied");
            assert!(said.contains("theirs"), "{said}");
            let own = [shown(&wanted, 3)];
            assert_eq!(occupied(&wanted, &own, Some(3)), None, "its own: {wanted:?}");
        }
        let there = [shown(&named(gre(hop(None), Some(8))), 3)];
        assert_eq!(occupied(&gre(hop(None), Some(7)), &there, Some(3)), None, "another key");
    }
}
