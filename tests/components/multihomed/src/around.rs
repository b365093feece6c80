//! What packets get around them on their way to peers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use flannel_backend::Link;
use flannel_backend::policy_routing::{Encapsulation, NextHop};

/// Bytes of an IPv6 header and a segment routing header without segments, of a segment (RFC 8754), and of a label (RFC 3032).
const HEADERS: u32 = 40 + 8;
const SEGMENT: u32 = 16;
const LABEL: u32 = 4;

/// As an option says it.
pub enum Around {
    /// Segments: through these nodes.
    Segments(Vec<Ipv6Addr>),
    /// MPLS labels.
    Labels(Vec<u32>),
}

/// Values that are joined by `+`.
fn joined<T: FromStr>(option: &str, text: &str) -> Result<Vec<T>, String> {
    let parts = text.split('+').filter(|part| !part.is_empty());
    parts.map(|part| part.parse().map_err(|_| format!("the option {option}: {part:?}"))).collect()
}

impl Around {
    /// By the options; none: nothing.
    pub fn of(options: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        Ok(match (options.get("segments"), options.get("labels")) {
            (None, None) => None,
            (Some(through), None) => Some(Self::Segments(joined("segments", through)?)),
            (None, Some(labels)) => Some(Self::Labels(joined("labels", labels)?)),
            _ => return Err("segments and labels are two ways: one of both".to_owned()),
        })
    }

    /// The nodes that packets go through.
    pub fn through(&self) -> &[Ipv6Addr] {
        match self {
            Self::Segments(through) => through,
            Self::Labels(_) => &[],
        }
    }

    /// Bytes that it takes of a packet.
    pub fn bytes(&self) -> u32 {
        let count = |all: usize| u32::try_from(all).unwrap_or(u32::MAX);
        match self {
            Self::Segments(through) => HEADERS + SEGMENT * (count(through.len()) + 1),
            Self::Labels(labels) => LABEL * count(labels.len()),
        }
    }

    /// The next hops to a peer. `first`: its address of the subnet's family; `at`: its IPv6 address; `known`: whether a node is there;
    /// `both`: by the nodes to go through, and without them.
    pub fn hops<'a>(
        &self,
        first: IpAddr,
        at: Option<Ipv6Addr>,
        known: impl Fn(&Ipv6Addr) -> bool,
        both: bool,
        device: &'a Link,
    ) -> Vec<NextHop<'a>> {
        let segments = match self {
            Self::Labels(labels) => {
                return vec![NextHop::via(first, device).with(Encapsulation::Labels(labels.clone()))];
            }
            Self::Segments(segments) => segments,
        };
        let Some(at) = at else { return Vec::new() };
        let through = segments.iter().copied().filter(|node| *node != at && known(node));
        let ways = [through.chain([at]).collect(), vec![at]];
        let count = if both && ways[0].len() > 1 { 2 } else { 1 };
        let hop = |way: Vec<Ipv6Addr>| match first {
            // One of several of IPv6's has a gateway.
            IpAddr::V6(_) if count > 1 => NextHop::via(first, device).with(Encapsulation::Segments(way)),
            _ => NextHop::by(Encapsulation::Segments(way), device),
        };
        ways.into_iter().take(count).map(hop).collect()
    }
}
