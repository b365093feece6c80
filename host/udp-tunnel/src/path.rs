//! What both directions of a thread work with.

use std::sync::atomic::Ordering::Relaxed;

use super::counters::{Counters, Reason};
use super::device::Queue;
use super::icmp::{self, Problem};
use super::icmp_sender::IcmpSender;
use super::limiter::Limiter;
use super::packet::Inner;
use super::peer_table::PeerTable;
use super::socket::Sockets;

/// A thread's queue, sockets and counters, and the peers as they are for this batch.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    /// The peers.
    pub roster: &'a PeerTable,
    /// To the peers.
    pub sockets: &'a Sockets,
    /// To the kernel.
    pub queue: &'a Queue,
    /// To senders of packets here.
    pub answerer: &'a IcmpSender,
    /// What is counted.
    pub tallies: &'a Counters,
}

impl Path<'_> {
    /// Counts a dropped packet.
    pub(crate) fn drop(&self, reason: Reason) {
        self.tallies.drop(reason, 1);
    }

    /// Answers about a packet that came from the kernel.
    pub(crate) fn answer(&self, packet: &[u8], inner: &Inner, problem: Problem, limiter: &mut Limiter) {
        let mut out = [0; icmp::MAX_ERROR_BYTES];
        let answer = icmp::answer(packet, inner, problem, &self.roster.addresses, &mut out);
        let Some(length) = answer.filter(|_| limiter.take()) else { return };
        let answer = &out[..length];
        if self.answerer.send(answer, inner.source(packet)) || self.queue.write(answer).is_ok() {
            self.tallies.answers.fetch_add(1, Relaxed);
        } else {
            self.drop(Reason::Device);
        }
    }
}
