//! Merging, against splitting.

use super::super::checksum::adjust;
use super::super::coalesce::Coalescer;
use super::super::packet::{Inner, seal_v4};
use super::super::vnet::{LENGTH, Vnet};
use super::model::{Made, Random, check};
use super::splitting::split;

/// Merges packets as one batch; what the device would get, virtio headers taken off.
fn merge(packets: &[Vec<u8>]) -> Vec<(Vnet, Vec<u8>)> {
    let mut memory = packets.concat();
    let mut coalescer = Coalescer::new(true, true);
    let mut start = 0;
    for packet in packets {
        coalescer.push(&memory, start, &Inner::parse(packet).expect("a packet"));
        start += packet.len();
    }
    let mut out = Vec::new();
    coalescer.drain(&mut memory, |slices, _| {
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>();
        out.push((Vnet::read(&bytes).expect("a header"), bytes[LENGTH..].to_vec()));
    });
    out
}

/// What the kernel makes of it: super-packets split again.
fn back(out: &[(Vnet, Vec<u8>)]) -> Vec<Vec<u8>> {
    out.iter()
        .flat_map(|(vnet, packet)| match vnet.segments().expect("a kind") {
            Some((segments, size)) => split(packet, segments, size),
            None => vec![packet.clone()],
        })
        .collect()
}

fn stream(v6: bool, tcp: bool, sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut random = Random(5);
    let mut sequence = 1000;
    let mut id = 65_534;
    sizes
        .iter()
        .map(|&size| {
            let payload = random.bytes(size);
            let made = if tcp { Made::tcp(sequence, payload) } else { Made::udp(payload) };
            let made = Made { v6, id, ..made };
            sequence += u32::try_from(size).expect("small");
            id = id.wrapping_add(1);
            made.bytes()
        })
        .collect()
}

#[test]
fn a_stream_becomes_one_packet_and_splits_into_the_same() {
    for (v6, tcp) in [(false, true), (true, true), (false, false), (true, false)] {
        let packets = stream(v6, tcp, &[1001, 1001, 1001, 400]);
        let out = merge(&packets);
        assert_eq!(out.len(), 1, "v6 {v6} tcp {tcp}");
        assert_eq!(back(&out), packets);
    }
}

#[test]
fn a_shorter_packet_ends_a_super_packet_and_a_longer_one_starts_another() {
    let packets = stream(false, true, &[700, 300, 300, 300, 900, 900]);
    let out = merge(&packets);
    assert_eq!(out.len(), 3);
    assert_eq!(back(&out), packets);
}

#[test]
fn a_super_packet_does_not_exceed_what_the_length_field_can_say() {
    let packets = stream(false, true, &[1448; 130]);
    let out = merge(&packets);
    assert_eq!(out.len(), 3);
    assert_eq!(back(&out), packets);
}

#[test]
fn a_push_is_kept_and_ends_the_super_packet() {
    let mut packets = stream(false, true, &[500; 4]);
    let pushed = Made { flags: 0x18, ..Made::tcp(1500, Random(9).bytes(500)) };
    packets[1] = Made { id: 65_535, ..pushed }.bytes();
    let out = merge(&packets);
    assert_eq!(out.len(), 2);
    assert_eq!(back(&out), packets);
}

#[test]
fn a_damaged_packet_is_never_blessed() {
    for v6 in [false, true] {
        for tcp in [false, true] {
            for victim in 0..3 {
                let mut packets = stream(v6, tcp, &[600; 3]);
                let last = packets[victim].len() - 1;
                packets[victim][last] ^= 0x40;
                let out = merge(&packets);
                assert_eq!(back(&out), packets, "v6 {v6} tcp {tcp} victim {victim}");
                let damaged = &packets[victim];
                assert!(out.iter().any(|(vnet, p)| p == damaged && *vnet == Vnet::default()));
            }
        }
    }
}

#[test]
fn packets_of_one_flow_never_overtake_each_other_and_all_come_out() {
    let mut random = Random(6);
    for _ in 0..300 {
        let mut sequences = [1000u32; 3];
        let packets = (0..40)
            .map(|_| {
                let flow = random.below(3);
                let length = [0, 100, 200, 200, 200, 200][random.below(6)];
                let payload = random.bytes(length);
                let flags = [0x10, 0x10, 0x10, 0x10, 0x10, 0x18, 0x11, 0x02, 0x50][random.below(9)];
                let made = Made { flags, v6: flow == 2, ..Made::tcp(sequences[flow], payload) };
                let made = if random.below(8) == 0 { Made { ttl: 9, ..made } } else { made };
                sequences[flow] += u32::try_from(length).expect("small");
                let mut packet = made.bytes();
                if flow == 1 {
                    // Another source port; the change is made up for in the checksum's place.
                    packet[21] ^= 1;
                    let sum = u16::from_be_bytes([packet[36], packet[37]]);
                    let fixed = adjust(sum, 0x3039, 0x3038);
                    packet[36..38].copy_from_slice(&fixed.to_be_bytes());
                }
                check(&packet).expect("right");
                packet
            })
            .collect::<Vec<_>>();
        let mut out = back(&merge(&packets));
        let flow_of = |p: &[u8]| if p[0] >> 4 == 6 { 2 } else { usize::from(p[21] == 0x38) };
        // With "don't fragment" the identification means nothing and is made up anew.
        let normal = |p: &mut Vec<u8>| {
            if p[0] >> 4 == 4 {
                p[4..6].fill(0);
                p[10..12].fill(0);
            }
        };
        let mut expected = packets.clone();
        out.iter_mut().for_each(normal);
        expected.iter_mut().for_each(normal);
        for flow in 0..3 {
            let of = |all: &[Vec<u8>]| all.iter().filter(|p| flow_of(p) == flow).cloned().collect::<Vec<_>>();
            assert_eq!(of(&out), of(&expected));
        }
    }
}

#[test]
fn fragments_and_datagrams_without_a_checksum_stay_alone() {
    let mut packets = stream(false, false, &[100; 2]);
    for p in &mut packets {
        p[26..28].fill(0);
    }
    assert_eq!(merge(&packets).len(), 2);
    let mut packets = stream(false, true, &[100; 2]);
    for p in &mut packets {
        p[6] = 0x20;
        seal_v4(&mut p[..20]);
    }
    assert_eq!(merge(&packets).len(), 2);
}

#[test]
fn without_dont_fragment_only_consecutive_identifications_merge() {
    let made = |id, sequence| Made { id, dont_fragment: false, ..Made::tcp(sequence, vec![1; 50]) }.bytes();
    assert_eq!(merge(&[made(1, 0), made(2, 50)]).len(), 1);
    assert_eq!(merge(&[made(1, 0), made(1, 50)]).len(), 2);
}
