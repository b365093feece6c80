//! Which packets are for a tunnel of ours, and come from no node.

use std::collections::{BTreeMap, BTreeSet};

use flannel_base::Family;
use ipnet::IpNet;

use super::Tunnel;
use super::message::{Expression, Verdict};

const UDP: u8 = 17;
const IPIP: u8 = 4;
const IPV6: u8 = 41;
const GRE: u8 = 47;
/// Flags in the first byte of a GRE header (RFC 2784, RFC 2890).
const KEY: u8 = 0x20;
const SEQUENCE: u8 = 0x10;
const CHECKSUM: u8 = 0x80;
/// What a GRE header says of what is in it: Ethertypes.
const GRE_IPV4: [u8; 2] = [0x08, 0x00];
const GRE_IPV6: [u8; 2] = [0x86, 0xdd];
const GRE_ETHERNET: [u8; 2] = [0x65, 0x58];

/// The rules for a family's tunnels, in order; none without tunnels.
pub(super) fn of(tunnels: &BTreeSet<Tunnel>, family: Family) -> Vec<Vec<Expression>> {
    let (mut networks, mut rest) = (BTreeMap::<u16, Vec<u32>>::new(), Vec::new());
    let mut gre = Vec::new();
    for tunnel in tunnels.iter().filter(|tunnel| tunnel.family() == family) {
        match *tunnel {
            Tunnel::Vxlan { port, vni, .. } => networks.entry(port).or_default().push(vni),
            Tunnel::Ipip { inner } => {
                let (network, mask) = (inner.network().octets(), inner.netmask().octets());
                let mut packets = protocol(IPIP);
                packets.extend([
                    // The inner header's destination.
                    Expression::Load { transport: true, offset: 16, length: 4 },
                    Expression::Mask(mask.into()),
                    Expression::Compare { is: true, value: network.into() },
                ]);
                rest.push(drop_strangers(family, packets));
            }
            Tunnel::IpInIp { inner, .. } => {
                let number = if inner.addr().is_ipv4() { IPIP } else { IPV6 };
                rest.push(others(protocol(number), 0, &inner));
                rest.push(drop_strangers(family, protocol(number)));
            }
            Tunnel::Gre { inner, .. } => gre.push(inner),
            Tunnel::Udp { port, .. } => rest.push(drop_strangers(family, to_port(port))),
        }
    }
    rest.extend(of_gre(&gre, family));
    // What is for other networks on a port is none of ours. The rest is, including what is too short to say: in IPv6 fragments come here
    // before they are put together, and the first one may end anywhere.
    let vxlan = networks.into_iter().flat_map(|(port, vnis)| {
        let mut others = to_port(port);
        // Behind the header of UDP: flags and what is reserved, four bytes.
        others.push(Expression::Load { transport: true, offset: 12, length: 3 });
        others.extend(
            vnis.iter().map(|vni| Expression::Compare { is: false, value: vni.to_be_bytes()[1..].to_vec() }),
        );
        others.push(Expression::Verdict(Verdict::Accept));
        [others, drop_strangers(family, to_port(port))]
    });
    vxlan.chain(rest).collect()
}

/// The rules for GRE, in order.
fn of_gre(inner: &[Option<IpNet>], family: Family) -> Vec<Vec<Expression>> {
    if inner.is_empty() {
        return Vec::new();
    }
    let kind = |inner: &Option<IpNet>| match inner {
        Some(IpNet::V4(_)) => GRE_IPV4,
        Some(IpNet::V6(_)) => GRE_IPV6,
        None => GRE_ETHERNET,
    };
    // What is in there that none of our devices takes.
    let mut foreign = protocol(GRE);
    foreign.push(Expression::Load { transport: true, offset: 2, length: 2 });
    foreign.extend(inner.iter().map(|inner| Expression::Compare { is: false, value: kind(inner).to_vec() }));
    foreign.push(Expression::Verdict(Verdict::Accept));
    let mut rules = vec![foreign];
    for network in inner {
        let Some(to) = network else { continue };
        // A header is longer by four bytes for each of what its flags say to be there.
        for flags in
            [0, KEY, SEQUENCE, KEY | SEQUENCE].into_iter().flat_map(|flags| [flags, flags | CHECKSUM])
        {
            let mut packets = protocol(GRE);
            packets.extend([
                Expression::Load { transport: true, offset: 0, length: 1 },
                Expression::Mask(vec![CHECKSUM | KEY | SEQUENCE]),
                Expression::Compare { is: true, value: vec![flags] },
                Expression::Load { transport: true, offset: 2, length: 2 },
                Expression::Compare { is: true, value: kind(network).to_vec() },
            ]);
            rules.push(others(packets, 4 + 4 * flags.count_ones(), to));
        }
    }
    rules.push(drop_strangers(family, protocol(GRE)));
    rules
}

/// Lets those of some packets in that have an IP packet in them which is surely not for this network. `offset`: where that begins.
fn others(mut packets: Vec<Expression>, offset: u32, inner: &IpNet) -> Vec<Expression> {
    let (at, network, mask) = match inner {
        IpNet::V4(net) => (16, net.network().octets().to_vec(), net.netmask().octets().to_vec()),
        IpNet::V6(net) => (24, net.network().octets().to_vec(), net.netmask().octets().to_vec()),
    };
    let length = if inner.addr().is_ipv4() { 4 } else { 16 };
    packets.extend([
        // The inner header's destination.
        Expression::Load { transport: true, offset: offset + at, length },
        Expression::Mask(mask),
        Expression::Compare { is: false, value: network },
        Expression::Verdict(Verdict::Accept),
    ]);
    packets
}

fn protocol(number: u8) -> Vec<Expression> {
    vec![Expression::Protocol, Expression::Compare { is: true, value: vec![number] }]
}

fn to_port(port: u16) -> Vec<Expression> {
    let mut packets = protocol(UDP);
    packets.extend([
        Expression::Load { transport: true, offset: 2, length: 2 },
        Expression::Compare { is: true, value: port.to_be_bytes().to_vec() },
    ]);
    packets
}

fn drop_strangers(family: Family, mut packets: Vec<Expression>) -> Vec<Expression> {
    // The source in the IP header.
    let (offset, length) = match family {
        Family::Ipv4 => (12, 4),
        Family::Ipv6 => (8, 16),
    };
    packets.extend([
        Expression::Load { transport: false, offset, length },
        Expression::NotANode,
        Expression::Count,
        Expression::Verdict(Verdict::Drop),
    ]);
    packets
}
