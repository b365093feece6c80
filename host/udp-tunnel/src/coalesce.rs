//! Collects the packets of one batch and gives them to the kernel, as few and large as can be. Packets of one flow stay
//! in order; nothing waits for a later batch.

use std::io::IoSlice;

use super::bytes::low32;
use super::counters::Reason;
use super::merge::{Head, MAX_SEGMENTS, same_flow};
use super::packet::Inner;
use super::path::Path;

/// How many of the latest entries are looked at for the flow that a packet continues (the kernel's GRO: 8 in a bucket).
const RECENT: usize = 8;
/// No piece.
const NONE: u32 = u32::MAX;

/// A packet to be delivered, alone or with others behind it.
struct Entry {
    start: usize,
    inner: Inner,
    /// None: delivered as it is.
    head: Option<Head>,
    /// Whether packets may still be added: none of the flow has come that could not.
    open: bool,
    first: u32,
    last: u32,
}

/// The payload of a packet that was merged.
struct Piece {
    start: u32,
    length: u32,
    next: u32,
}

/// A batch.
pub(crate) struct Coalescer {
    tcp: bool,
    udp: bool,
    entries: Vec<Entry>,
    pieces: Vec<Piece>,
}

impl Coalescer {
    /// An empty one, which merges what the device takes.
    pub(crate) fn new(tcp: bool, udp: bool) -> Self {
        Self { tcp, udp, entries: Vec::new(), pieces: Vec::new() }
    }

    /// Adds the packet that starts at `start` in `memory` and has been parsed as `inner`.
    pub(crate) fn push(&mut self, memory: &[u8], start: usize, inner: &Inner) {
        let packet = &memory[start..start + inner.total];
        let head = if self.tcp { Head::of(packet, inner) } else { None };
        let head = head.filter(|head| self.udp || !head.is_udp());
        if self.tcp {
            let recent = self.entries.len().saturating_sub(RECENT);
            for entry in self.entries[recent..].iter_mut().rev() {
                let first = &memory[entry.start..entry.start + entry.inner.total];
                if !same_flow((&entry.inner, first), (inner, packet)) {
                    continue;
                }
                if let (true, Some(whole), Some(next)) = (entry.open, &mut entry.head, &head)
                    && whole.take(first, next, packet)
                {
                    let number = low32(self.pieces.len());
                    let (start, length) = (start + next.header, inner.total - next.header);
                    self.pieces.push(Piece { start: low32(start), length: low32(length), next: NONE });
                    match self.pieces.get_mut(entry.last as usize) {
                        Some(last) => last.next = number,
                        None => entry.first = number,
                    }
                    entry.last = number;
                    return;
                }
                // The latest entry of the flow decides: what goes into an older one would overtake it.
                entry.open = false;
                break;
            }
        }
        self.entries.push(Entry { start, inner: *inner, open: true, head, first: NONE, last: NONE });
    }

    /// Gives every packet to `deliver`, virtio header and pieces, in the order of the entries' first packets.
    pub(crate) fn drain(&mut self, memory: &mut [u8], mut deliver: impl FnMut(&[IoSlice<'_>], usize)) {
        for entry in &self.entries {
            let (start, first_end) = (entry.start, entry.start + entry.inner.total);
            let Some(head) = entry.head.filter(|head| head.count > 1) else {
                let vnet = super::vnet::Vnet::default().bytes();
                deliver(&[IoSlice::new(&vnet), IoSlice::new(&memory[start..first_end])], 1);
                continue;
            };
            let vnet = head.seal(&mut memory[start..first_end]).bytes();
            let mut slices = [IoSlice::new(&[]); MAX_SEGMENTS + 1];
            slices[0] = IoSlice::new(&vnet);
            slices[1] = IoSlice::new(&memory[start..first_end]);
            let mut used = 2;
            let mut next = entry.first;
            while let (Some(piece), Some(slot)) = (self.pieces.get(next as usize), slices.get_mut(used)) {
                *slot = IoSlice::new(&memory[piece.start as usize..][..piece.length as usize]);
                used += 1;
                next = piece.next;
            }
            deliver(&slices[..used], head.count);
        }
        self.entries.clear();
        self.pieces.clear();
    }

    /// Gives every packet to the device.
    pub(crate) fn deliver(&mut self, memory: &mut [u8], path: Path<'_>) {
        self.drain(memory, |slices, count| {
            if path.queue.write_pieces(slices).is_err() {
                path.tallies.drop(Reason::Device, count);
            }
        });
    }
}
