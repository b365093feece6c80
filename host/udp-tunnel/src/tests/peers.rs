//! The table of peers, against a naive one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::icmp::Addresses;
use super::super::peer_table::{Peer, PeerTable, Shared};
use super::super::spec::{PeerChange, TunnelPeer};
use super::model::Random;

fn empty() -> PeerTable {
    PeerTable::new((8285, 8285), Addresses::default(), 1450)
}

fn peer(id: u64, subnets: &[IpNet]) -> TunnelPeer {
    let host = u8::try_from(id % 5).expect("small");
    TunnelPeer { id, subnets: subnets.to_vec(), endpoint: IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)) }
}

/// Few addresses and all lengths, so that prefixes nest and collide.
fn net(random: &mut Random) -> IpNet {
    let bits = random.next();
    if random.below(2) == 0 {
        let length = u8::try_from(random.below(33)).expect("fits");
        let address =
            Ipv4Addr::from_bits(0x0a05_0000 | u32::try_from(bits % 4).expect("fits") << (bits >> 8 & 15));
        IpNet::V4(Ipv4Net::new(address, length).expect("a length"))
    } else {
        let length = u8::try_from(random.below(129)).expect("fits");
        let address = Ipv6Addr::from_bits(0xfd05 << 112 | u128::from(bits % 4) << (bits >> 8 & 127));
        IpNet::V6(Ipv6Net::new(address, length).expect("a length"))
    }
}

#[test]
fn the_longest_prefix_wins_as_in_a_naive_search() {
    let mut random = Random(8);
    for _ in 0..200 {
        let mut roster = empty();
        // In the order in which they were last set.
        let mut model = Vec::<TunnelPeer>::new();
        for _ in 0..60 {
            let id = random.next() % 12;
            let known = model.iter().position(|p| p.id == id);
            if random.below(3) == 0 {
                roster.apply(&PeerChange::Remove(id));
                if let Some(at) = known {
                    model.remove(at);
                }
            } else {
                // No two peers claim the same subnet here: who wins then is another test's matter.
                let nets = (0..random.below(4))
                    .map(|_| net(&mut random))
                    .filter(|n| {
                        !model.iter().any(|p| p.id != id && p.subnets.iter().any(|m| m.trunc() == n.trunc()))
                    })
                    .collect::<Vec<_>>();
                let set = peer(id, &nets);
                roster.apply(&PeerChange::Set(set.clone()));
                match known {
                    Some(at) => model[at] = set,
                    None => model.push(set),
                }
            }
            for _ in 0..20 {
                let address = net(&mut random).addr();
                let naive = model
                    .iter()
                    .flat_map(|p| p.subnets.iter().map(move |n| (n, p.id)))
                    .filter(|(n, _)| n.contains(&address))
                    .max_by_key(|(n, _)| n.prefix_len())
                    .map(|(_, id)| id);
                let found = roster.find(address).and_then(|n| roster.peer(n)).map(Peer::id);
                assert_eq!(found, naive, "{address} among {model:?}");
            }
        }
        let ids = roster.counters().len();
        assert_eq!(ids, model.len());
    }
}

#[test]
fn a_subnet_that_changes_hands_goes_to_the_last_one_set_and_falls_back() {
    let net = "10.5.3.0/24".parse().expect("a net");
    let at = |roster: &PeerTable| {
        roster.find(IpAddr::V4(Ipv4Addr::new(10, 5, 3, 9))).and_then(|n| roster.peer(n)).map(Peer::id)
    };
    let mut roster = empty();
    roster.apply(&PeerChange::Set(peer(1, &[net])));
    roster.apply(&PeerChange::Set(peer(2, &[net])));
    assert_eq!(at(&roster), Some(2));
    roster.apply(&PeerChange::Remove(1));
    assert_eq!(at(&roster), Some(2));
    roster.apply(&PeerChange::Set(peer(3, &[net])));
    roster.apply(&PeerChange::Remove(3));
    assert_eq!(at(&roster), Some(2));
    roster.replace(&[]);
    assert_eq!(at(&roster), None);
    assert!(roster.endpoint(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2))).is_none());
}

#[test]
fn a_peer_set_again_keeps_its_counters() {
    let mut roster = empty();
    roster.apply(&PeerChange::Set(peer(1, &["10.5.3.0/24".parse().expect("a net")])));
    roster.peer(0).expect("the peer").traffic.tx.add(3, 300);
    roster.replace(&[peer(1, &["10.5.4.0/24".parse().expect("a net")])]);
    let counters = roster.counters();
    assert_eq!((counters[0].id, counters[0].traffic.tx_packets, counters[0].traffic.tx_bytes), (1, 3, 300));
}

/// A cluster of so many nodes with a /24 each.
pub(super) fn cluster(nodes: u32) -> Vec<TunnelPeer> {
    (0..nodes)
        .map(|n| {
            let net = Ipv4Net::new(Ipv4Addr::from_bits(0x0b00_0000 + (n << 8)), 24).expect("a net");
            let endpoint = IpAddr::V4(Ipv4Addr::from_bits(0xac10_0000 + n));
            TunnelPeer { id: 1000 + u64::from(n), subnets: vec![IpNet::V4(net)], endpoint }
        })
        .collect()
}

#[test]
fn each_of_ten_thousand_peers_is_found_and_can_be_changed() {
    let peers = cluster(10_000);
    let shared = Shared::new(empty());
    shared.change(|roster| roster.replace(&peers));
    let moved = IpAddr::V4(Ipv4Addr::new(172, 31, 0, 1));
    let changed = TunnelPeer { endpoint: moved, ..peers[7_777].clone() };
    shared.change(|roster| roster.apply(&PeerChange::Set(changed)));
    let roster = shared.newest();
    for (number, peer) in peers.iter().enumerate() {
        let address = peer.subnets[0].addr();
        let found = roster.find(address).and_then(|n| roster.peer(n)).expect("each is found");
        assert_eq!(found.id(), peer.id, "{address}");
        let expected = if number == 7_777 { moved } else { peer.endpoint };
        assert_eq!(found.endpoint.address, expected, "{address}");
    }
}
