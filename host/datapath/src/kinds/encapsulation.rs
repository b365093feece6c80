//! What a route's next hop puts around packets (`RTA_ENCAP`, `include/uapi/linux/lwtunnel.h`): as it is asked for, and as the kernel shows it.

use std::net::IpAddr;
use std::sync::Arc;

use flannel_model::policy_routing::{Encapsulation, TunnelKey};
use netlink_packet_core::{Emitable, NlaBuffer, ParseableParametrized};
use netlink_packet_route::route::{
    MplsLabel, RouteAttribute, RouteIp6Tunnel, RouteIp6TunnelFlags, RouteIpTunnel, RouteIpTunnelFlags,
    RouteLwEnCapType, RouteLwTunnelEncap, RouteMplsIpTunnel, RouteSeg6IpTunnel, Seg6Header, Seg6Mode,
};

use crate::observed::Around;

/// The attributes of a next hop with this around its packets.
pub(super) fn attributes(around: &Around) -> Vec<RouteAttribute> {
    let Around::This(wanted) = around else { return Vec::new() };
    let (kind, parts) = match &**wanted {
        Encapsulation::Tunnel(key) => tunnel(key),
        Encapsulation::Segments(segments) => {
            let mut header = Seg6Header::default();
            (header.mode, header.segments) = (Seg6Mode::Encap, segments.to_vec());
            (RouteLwEnCapType::Seg6, vec![RouteLwTunnelEncap::Seg6(RouteSeg6IpTunnel::Seg6(header))])
        }
        Encapsulation::Labels(labels) => {
            let last = labels.len().saturating_sub(1);
            let label = |(at, label): (usize, &u32)| MplsLabel {
                label: *label,
                traffic_class: 0,
                bottom_of_stack: at == last,
                ttl: 0,
            };
            let labels = labels.iter().enumerate().map(label).collect();
            let labels = RouteLwTunnelEncap::Mpls(RouteMplsIpTunnel::Destination(labels));
            (RouteLwEnCapType::Mpls, vec![labels])
        }
    };
    vec![RouteAttribute::Encap(parts), RouteAttribute::EncapType(kind)]
}

fn tunnel(key: &TunnelKey) -> (RouteLwEnCapType, Vec<RouteLwTunnelEncap>) {
    let (class, ttl) = (key.dscp << 2, key.ttl.unwrap_or(0));
    match key.destination {
        IpAddr::V4(to) => {
            let mut parts =
                vec![RouteIpTunnel::Destination(to), RouteIpTunnel::Ttl(ttl), RouteIpTunnel::Tos(class)];
            // Without the flag GRE has no key.
            parts.extend(
                key.id
                    .into_iter()
                    .flat_map(|id| [RouteIpTunnel::Id(id), RouteIpTunnel::Flags(RouteIpTunnelFlags::Key)]),
            );
            (RouteLwEnCapType::Ip, parts.into_iter().map(RouteLwTunnelEncap::Ip).collect())
        }
        IpAddr::V6(to) => {
            let mut parts = vec![
                RouteIp6Tunnel::Destination(to),
                RouteIp6Tunnel::Hoplimit(ttl),
                RouteIp6Tunnel::Tc(class),
            ];
            parts.extend(
                key.id
                    .into_iter()
                    .flat_map(|id| [RouteIp6Tunnel::Id(id), RouteIp6Tunnel::Flags(RouteIp6TunnelFlags::Key)]),
            );
            (RouteLwEnCapType::Ip6, parts.into_iter().map(RouteLwTunnelEncap::Ip6).collect())
        }
    }
}

/// What is around packets by the attributes of a next hop, or of a route with a single one.
pub(super) fn read(attributes: &[RouteAttribute]) -> Around {
    let (mut kind, mut parts) = (RouteLwEnCapType::None, &[][..]);
    for attribute in attributes {
        match attribute {
            RouteAttribute::EncapType(is) => kind = *is,
            RouteAttribute::Encap(of) => parts = of,
            _ => {}
        }
    }
    if kind == RouteLwEnCapType::None && parts.is_empty() {
        return Around::Nothing;
    }
    // Of one of several next hops the library does not know the kind when it reads the parts.
    let parts: Option<Vec<RouteLwTunnelEncap>> = parts.iter().map(|part| typed(part, kind)).collect();
    parts.and_then(|parts| of_parts(&parts)).map_or(Around::Odd, |read| Around::This(Arc::new(read)))
}

fn typed(part: &RouteLwTunnelEncap, kind: RouteLwEnCapType) -> Option<RouteLwTunnelEncap> {
    let RouteLwTunnelEncap::Other(untyped) = part else { return Some(part.clone()) };
    let mut bytes = vec![0; untyped.buffer_len()];
    untyped.emit(&mut bytes);
    let buffer = NlaBuffer::new_checked(&bytes[..]).ok()?;
    RouteLwTunnelEncap::parse_with_param(&buffer, kind).ok()
}

/// `None`: it is none of ours.
fn of_parts(parts: &[RouteLwTunnelEncap]) -> Option<Encapsulation> {
    match parts {
        [RouteLwTunnelEncap::Seg6(RouteSeg6IpTunnel::Seg6(header))] => {
            let is_ours = header.mode == Seg6Mode::Encap && header.hmac.is_none();
            is_ours.then(|| Encapsulation::Segments(header.segments.clone().into()))
        }
        [RouteLwTunnelEncap::Mpls(RouteMplsIpTunnel::Destination(labels))] => {
            Some(Encapsulation::Labels(labels.iter().map(|label| label.label).collect()))
        }
        _ => tunnel_key(parts).map(Encapsulation::Tunnel),
    }
}

fn tunnel_key(parts: &[RouteLwTunnelEncap]) -> Option<TunnelKey> {
    let (mut destination, mut id, mut has_id, mut ttl, mut class) = (None, 0, false, 0, 0);
    for part in parts {
        match part {
            RouteLwTunnelEncap::Ip(RouteIpTunnel::Destination(to)) => destination = Some(IpAddr::V4(*to)),
            RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Destination(to)) => destination = Some(IpAddr::V6(*to)),
            RouteLwTunnelEncap::Ip(RouteIpTunnel::Source(from)) if from.is_unspecified() => {}
            RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Source(from)) if from.is_unspecified() => {}
            RouteLwTunnelEncap::Ip(RouteIpTunnel::Id(is))
            | RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Id(is)) => id = *is,
            RouteLwTunnelEncap::Ip(RouteIpTunnel::Ttl(is))
            | RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Hoplimit(is)) => ttl = *is,
            RouteLwTunnelEncap::Ip(RouteIpTunnel::Tos(is))
            | RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Tc(is)) => class = *is,
            RouteLwTunnelEncap::Ip(RouteIpTunnel::Flags(flags))
                if flags.is_empty() || *flags == RouteIpTunnelFlags::Key =>
            {
                has_id = !flags.is_empty();
            }
            RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Flags(flags))
                if flags.is_empty() || *flags == RouteIp6TunnelFlags::Key =>
            {
                has_id = !flags.is_empty();
            }
            _ => return None,
        }
    }
    let is_whole = class.is_multiple_of(4) && (has_id || id == 0);
    let (ttl, id) = ((ttl > 0).then_some(ttl), has_id.then_some(id));
    is_whole.then_some(TunnelKey { destination: destination?, id, ttl, dscp: class >> 2 })
}
