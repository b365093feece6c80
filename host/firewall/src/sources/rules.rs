//! Which packets are for a tunnel of ours, and come from no node.

use std::collections::{BTreeMap, BTreeSet};

use flannel_base::Family;

use super::Tunnel;
use super::message::{Expression, Verdict};

const UDP: u8 = 17;
const IPIP: u8 = 4;

/// The rules for a family's tunnels, in order; none without tunnels.
pub(super) fn of(tunnels: &BTreeSet<Tunnel>, family: Family) -> Vec<Vec<Expression>> {
    let (mut networks, mut rest) = (BTreeMap::<u16, Vec<u32>>::new(), Vec::new());
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
        }
    }
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
