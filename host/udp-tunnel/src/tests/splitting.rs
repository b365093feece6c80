//! Checksums, parsing and splitting.

use super::super::checksum::{Sum, adjust};
use super::super::counters::Reason;
use super::super::packet::Inner;
use super::super::segment::GsoSegmenter;
use super::super::vnet::{Segments, Vnet};
use super::model::{Made, Random, check, slow_sum};

#[test]
fn sums_are_those_of_the_slow_way() {
    let mut random = Random(1);
    for length in (0..300).chain([1449, 65_535]) {
        let bytes = random.bytes(length);
        let expected = (!slow_sum(&[&bytes])).to_be_bytes();
        assert_eq!(Sum::default().bytes(&bytes).complement(), expected, "{length} bytes");
        let even = length / 4 * 2;
        let parts = Sum::default().bytes(&bytes[..even]).bytes(&bytes[even..]);
        assert_eq!(parts.complement(), expected, "{length} bytes in two parts");
    }
    assert_eq!(Sum::default().bytes(&[0xff; 64]).complement(), [0, 0]);
    assert_eq!(Sum::default().bytes(&[0xff; 64]).complement_udp(), [0xff, 0xff]);
}

#[test]
fn a_changed_word_changes_the_checksum_as_a_new_sum_would() {
    let mut random = Random(2);
    for _ in 0..10_000 {
        let mut made = Made::tcp(0, Vec::new());
        made.ttl = 2 + random.bytes(1)[0] % 254;
        made.id = u16::try_from(random.below(65_536)).expect("fits");
        let mut packet = made.bytes();
        let inner = Inner::parse(&packet).expect("a packet");
        assert!(inner.decrement_ttl(&mut packet));
        assert_eq!(packet[8], made.ttl - 1);
        check(&packet).expect("still right");
    }
    assert_eq!(adjust(0xdd2f, 0x5555, 0x3285), 0x0000, "the example of RFC 1624, section 4");
}

#[test]
fn the_last_hop_is_not_taken() {
    for ttl in [0, 1] {
        let mut packet = Made { ttl, ..Made::udp(vec![1]) }.bytes();
        let before = packet.clone();
        assert!(!Inner::parse(&packet).expect("a packet").decrement_ttl(&mut packet));
        assert_eq!(packet, before);
    }
}

#[test]
fn what_is_no_packet_is_told_by_reason() {
    let good = Made::udp(vec![0; 30]).bytes();
    assert_eq!(Inner::parse(&good[..19]), Err(Reason::Short));
    assert_eq!(Inner::parse(&good[..57]), Err(Reason::Truncated));
    let with = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        Inner::parse(&packet)
    };
    assert_eq!(with(0, 0x55), Err(Reason::Version));
    assert_eq!(with(0, 0x44), Err(Reason::Header));
    assert_eq!(with(3, 19), Err(Reason::Header));
    assert_eq!(with(2, 1), Err(Reason::Truncated));
    let mut longer = good.clone();
    longer.extend_from_slice(&[9; 100]);
    assert_eq!(Inner::parse(&longer).expect("a packet").total, good.len());
}

/// Splits a super-packet; the packets as they would go on the wire.
pub(super) fn split(super_packet: &[u8], segments: Segments, size: usize) -> Vec<Vec<u8>> {
    let inner = Inner::parse(super_packet).expect("a packet");
    let split = GsoSegmenter::new(super_packet, &inner, segments, size).expect("a super-packet");
    (0..split.count)
        .map(|index| {
            let mut packet = vec![0; split.header];
            let payload = split.write(super_packet, index, &mut packet);
            packet.extend_from_slice(&super_packet[payload]);
            packet
        })
        .collect()
}

#[test]
fn segments_are_what_the_sender_would_have_sent_one_by_one() {
    let mut random = Random(3);
    for round in 0..400 {
        let size = 1 + random.below(1448);
        let length = 1 + random.below(20_000);
        let payload = random.bytes(length);
        let tcp = round % 2 == 0;
        // SYN never comes in a super-packet; CWR, PSH and FIN do.
        let made = Made {
            v6: round % 4 > 1,
            flags: 0x10 | [0, 0x01, 0x08, 0x80, 0x89][random.below(5)],
            id: 65_530,
            ..if tcp { Made::tcp(u32::MAX - 3000, payload.clone()) } else { Made::udp(payload.clone()) }
        };
        let kind = if tcp { Segments::Tcp } else { Segments::Udp };
        let packets = split(&made.bytes(), kind, size);
        let count = payload.len().div_ceil(size);
        let expected = payload.chunks(size).enumerate().map(|(index, part)| {
            let first = if index == 0 { 0 } else { 0x80 };
            let last = if index + 1 == count { 0 } else { 0x09 };
            Made {
                id: made.id.wrapping_add(u16::try_from(index).expect("fits")),
                sequence: made.sequence.wrapping_add(u32::try_from(index * size).expect("fits")),
                flags: made.flags & !first & !last,
                payload: part.to_vec(),
                ..made.clone()
            }
            .bytes()
        });
        assert!(packets.iter().eq(&expected.collect::<Vec<_>>()), "round {round}");
        for packet in &packets {
            check(packet).expect("a whole packet");
        }
    }
}

#[test]
fn a_checksum_left_to_us_is_completed() {
    let right = Made::udp(b"odd".to_vec()).bytes();
    let inner = Inner::parse(&right).expect("a packet");
    let mut packet = right.clone();
    let partial = inner.pseudo_header(&packet, packet.len() - 20).partial();
    packet[26..28].copy_from_slice(&partial);
    let header = [1, 0, 0, 0, 0, 0, 20, 0, 6, 0];
    let vnet = Vnet::read(&header).expect("a header");
    vnet.complete_checksum(&mut packet, &inner).expect("completed");
    assert_eq!(packet, right);
    let outside = Vnet::read(&[1, 0, 0, 0, 0, 0, 255, 255, 255, 255]).expect("a header");
    assert_eq!(outside.complete_checksum(&mut packet, &inner), Err(Reason::Offload));
}

#[test]
fn no_bytes_make_it_panic() {
    let mut random = Random(4);
    let mut seeds = vec![Made::tcp(5, vec![7; 3000]).bytes(), Made::udp(vec![7; 99]).bytes()];
    seeds.push(Made { v6: true, ..Made::tcp(5, vec![7; 3000]) }.bytes());
    seeds.push(Made { v6: true, ..Made::udp(vec![7; 99]) }.bytes());
    for round in 0..30_000 {
        let mut data = if round % 3 == 0 {
            let length = random.below(200);
            random.bytes(length)
        } else {
            let mut data = [[1, 1, 0, 0, 90, 0, 20, 0, 16, 0].to_vec(), seeds[round % 4].clone()].concat();
            if round % 3 == 1 {
                // Without the virtio header: a datagram, and behind it another.
                data = [&data[10..], &data[10..]].concat();
            }
            let length = random.below(data.len() + 1);
            data.truncate(if random.below(2) == 0 { length } else { data.len() });
            data
        };
        for _ in 0..random.below(6) {
            if !data.is_empty() {
                let at = random.below(data.len().min(80));
                data[at] = random.bytes(1)[0];
            }
        }
        super::super::fuzz(&data);
    }
}
