//! The way in for fuzzing: whatever the bytes, nothing may panic.

use super::coalesce::Coalescer;
use super::fragment::Fragmenter;
use super::icmp::{Addresses, MAX_ERROR_BYTES, Problem, answer};
use super::packet::{Inner, LARGEST_HEADER};
use super::segment::GsoSegmenter;
use super::vnet::{LENGTH, Vnet};

/// Treats bytes as what a TUN device gives (a virtio header and a packet) and as two datagrams of a peer. Panics on a
/// defect, and does nothing else.
pub fn fuzz(data: &[u8]) {
    from_device(data);
    from_peer(data);
}

fn from_device(data: &[u8]) {
    let Ok(vnet) = Vnet::read(data) else { return };
    let mut packet = data[LENGTH..].to_vec();
    let Ok(inner) = Inner::parse(&packet) else { return };
    let packet = &mut packet[..inner.total];
    let _ = vnet.complete_checksum(packet, &inner);
    inner.decrement_ttl(packet);
    answers(packet, &inner);
    let mut header = [0; LARGEST_HEADER];
    if let Ok(Some((segments, size))) = vnet.segments()
        && let Ok(split) = GsoSegmenter::new(packet, &inner, segments, size)
    {
        for split in [Some(split), split.narrowed(size)].into_iter().flatten() {
            for index in 0..split.count {
                split.write(packet, index, &mut header[..split.header]);
            }
        }
    }
    if let Some(cut) = Fragmenter::new(&inner, 576) {
        for index in 0..cut.count {
            cut.write(packet, index, &mut header[..cut.header]);
        }
    }
}

fn from_peer(data: &[u8]) {
    let mut memory = data.to_vec();
    let mut coalescer = Coalescer::new(true, true);
    let middle = memory.len() / 2;
    for (start, end) in [(0, middle), (middle, memory.len())] {
        let datagram = &mut memory[start..end];
        let Ok(inner) = Inner::parse(datagram) else { continue };
        inner.decrement_ttl(&mut datagram[..inner.total]);
        answers(&datagram[..inner.total], &inner);
        coalescer.push(&memory, start, &inner);
    }
    coalescer.drain(&mut memory, |_, _| {});
    // The beginning of a longer packet, as quoted after a refusal.
    if let Ok(inner) = Inner::parse_beginning(data, 65_535) {
        answers(data, &inner);
    }
}

fn answers(packet: &[u8], inner: &Inner) {
    let addresses =
        Addresses { v4: Some(std::net::Ipv4Addr::new(10, 5, 1, 0)), v6: Some(std::net::Ipv6Addr::LOCALHOST) };
    let mut out = [0; MAX_ERROR_BYTES];
    for problem in [Problem::NoRoute, Problem::HopsExhausted, Problem::TooBig(1400)] {
        answer(packet, inner, problem, &addresses, &mut out);
    }
}
