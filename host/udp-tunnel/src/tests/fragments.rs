//! Fragments and ICMP answers.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::fragment::Fragmenter;
use super::super::icmp::{Addresses, MAX_ERROR_BYTES, Problem, answer};
use super::super::packet::Inner;
use super::model::{Made, Random, check};

fn cut(packet: &[u8], limit: usize) -> Vec<Vec<u8>> {
    let inner = Inner::parse(packet).expect("a packet");
    let cut = Fragmenter::new(&inner, limit).expect("can be cut");
    (0..cut.count)
        .map(|index| {
            let mut fragment = vec![0; cut.header];
            let payload = cut.write(packet, index, &mut fragment);
            fragment.extend_from_slice(&packet[payload]);
            fragment
        })
        .collect()
}

fn offset(fragment: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([fragment[6], fragment[7]]) & 0x1fff) * 8
}

#[test]
fn fragments_put_together_are_the_packet() {
    let mut random = Random(7);
    for limit in [68, 576, 1271, 1500] {
        let packet = Made { dont_fragment: false, ..Made::udp(random.bytes(3001)) }.bytes();
        let fragments = cut(&packet, limit);
        // A second narrow link cuts fragments again.
        let fragments = fragments.iter().flat_map(|f| cut(f, 60)).collect::<Vec<_>>();
        let mut whole = vec![0; packet.len() - 20];
        for (index, fragment) in fragments.iter().enumerate() {
            check(fragment).expect("right");
            assert!(fragment.len() <= limit);
            let start = offset(fragment);
            whole[start..start + fragment.len() - 20].copy_from_slice(&fragment[20..]);
            assert_eq!(fragment[6] & 0x20 != 0, index + 1 < fragments.len());
        }
        assert_eq!(whole, packet[20..]);
    }
}

#[test]
fn only_the_first_fragment_bears_options_that_are_not_for_all() {
    let plain = Made { dont_fragment: false, ..Made::udp(vec![5; 600]) }.bytes();
    // A record-route option (7) is not copied, a router alert (148) is.
    let options = [7, 3, 4, 148, 4, 0, 0, 0];
    let mut packet = [&plain[..20], &options, &plain[20..]].concat();
    packet[0] = 0x47;
    packet[3] += 8;
    super::super::packet::seal_v4(&mut packet[..28]);
    let fragments = cut(&packet, 300);
    assert_eq!(fragments[0][20..28], options);
    assert_eq!(fragments[1][20..28], [1, 1, 1, 148, 4, 0, 0, 0]);
}

const FROM: Addresses =
    Addresses { v4: Some(Ipv4Addr::new(10, 5, 9, 0)), v6: Some(Ipv6Addr::new(0xfd05, 9, 0, 0, 0, 0, 0, 0)) };

fn answered(packet: &[u8], problem: Problem) -> Option<Vec<u8>> {
    let inner = Inner::parse(packet).expect("a packet");
    let mut out = vec![0; MAX_ERROR_BYTES];
    let length = answer(packet, &inner, problem, &FROM, &mut out)?;
    check(&out[..length]).expect("a right answer");
    Some(out[..length].to_vec())
}

#[test]
fn unreachable_is_upstreams_answer() {
    let packet = Made::tcp(5, vec![1; 400]).bytes();
    let answer = answered(&packet, Problem::NoRoute).expect("an answer");
    assert_eq!(answer.len(), 56, "header, ICMP, the quoted header and 8 bytes");
    assert_eq!((answer[8], answer[9], answer[20], answer[21]), (8, 1, 3, 0));
    assert_eq!(answer[12..20], [10, 5, 9, 0, 10, 5, 1, 1]);
    assert_eq!(answer[28..], packet[..28]);
}

#[test]
fn the_other_answers_have_their_types_and_the_mtu() {
    let v4 = Made::udp(vec![1; 1400]).bytes();
    let v6 = Made { v6: true, ..Made::udp(vec![1; 1400]) }.bytes();
    let exceeded = answered(&v4, Problem::HopsExhausted).expect("an answer");
    assert_eq!(exceeded[20..22], [11, 0]);
    let too_big = answered(&v4, Problem::TooBig(1272)).expect("an answer");
    assert_eq!((&too_big[20..22], &too_big[26..28]), (&[3, 4][..], &1272u16.to_be_bytes()[..]));
    let too_big = answered(&v6, Problem::TooBig(1280)).expect("an answer");
    assert_eq!((&too_big[40..42], &too_big[44..48]), (&[2, 0][..], &1280u32.to_be_bytes()[..]));
    assert_eq!(too_big.len(), 1280);
    assert_eq!(answered(&v6, Problem::HopsExhausted).expect("an answer")[40..42], [3, 0]);
    assert_eq!(answered(&v6, Problem::NoRoute).expect("an answer")[40..42], [1, 0]);
}

#[test]
fn some_packets_are_never_answered() {
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = Made::udp(vec![0; 40]).bytes();
        change(&mut packet);
        packet
    };
    let icmp = |kind: u8| {
        with(&move |p| {
            p[9] = 1;
            p[20] = kind;
        })
    };
    assert!(answered(&icmp(8), Problem::NoRoute).is_none(), "as upstream");
    assert!(answered(&icmp(8), Problem::HopsExhausted).is_some(), "traceroute -I");
    for kind in [3, 4, 5, 11, 12] {
        assert!(answered(&icmp(kind), Problem::HopsExhausted).is_none(), "ICMP {kind}");
    }
    let later = with(&|p| p[7] = 9);
    assert!(answered(&later, Problem::NoRoute).is_none(), "a later fragment");
    for (at, octets) in [(12, [0, 0, 0, 0]), (12, [224, 0, 0, 1]), (16, [239, 1, 1, 1]), (16, [255; 4])] {
        let packet = with(&move |p| p[at..at + 4].copy_from_slice(&octets));
        assert!(answered(&packet, Problem::HopsExhausted).is_none(), "{octets:?} at {at}");
    }
}
