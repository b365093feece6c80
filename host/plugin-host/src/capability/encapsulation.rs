//! What next hops of `policy-routing` put around packets: nothing that leads out of the cluster.

use std::net::{IpAddr, Ipv6Addr};

use flannel_base::Family;
use flannel_model::entry::{Device, ExternalMode};
use flannel_model::lease::Lease;
use flannel_model::policy_routing::{Encapsulation, TunnelKey};

use super::HostState;
use super::belongs::check_published;
use crate::bindings::flannel::backend::policy_routing::{self as wit, Error};
use crate::convert;

/// Segments of a next hop, at most.
const MOST_SEGMENTS: usize = 16;
/// Labels of a next hop, at most.
const MOST_LABELS: usize = 8;
/// The labels that have no meaning of their own (RFC 3032, 2.1).
const LABELS: std::ops::RangeInclusive<u32> = 16..=0xf_ffff;
/// The highest differentiated services code point.
const LAST_DSCP: u8 = 63;

impl HostState {
    /// Checks what a next hop of a route to a peer puts around packets.
    pub(super) fn checked_encapsulation(
        &self,
        lease: &Lease,
        device: &Device,
        via: Option<IpAddr>,
        wanted: wit::Encapsulation,
    ) -> Result<Encapsulation, Error> {
        match wanted {
            wit::Encapsulation::Tunnel(key) => {
                let own = match device {
                    Device::Own(name) => self.devices.get(name),
                    Device::External | Device::Uplink(_) => None,
                };
                let mode =
                    own.and_then(flannel_model::entry::DeviceSpec::external_mode).ok_or_else(|| {
                        Error::Denied(format!(
                            "{device} is no device in external mode: it knows by itself where packets go"
                        ))
                    })?;
                checked_tunnel(lease, device, mode, &key).map(Encapsulation::Tunnel)
            }
            wit::Encapsulation::Segments(segments) => {
                if matches!(device, Device::Own(_)) {
                    return Err(Error::Denied(format!(
                        "segments over {device}: they are for the external interface and uplinks"
                    )));
                }
                let segments: Vec<Ipv6Addr> = segments.into_iter().map(convert::ipv6_address).collect();
                self.check_segments(lease, &segments)?;
                Ok(Encapsulation::Segments(segments.into()))
            }
            wit::Encapsulation::Labels(labels) => {
                check_labels(&labels)?;
                if via.is_none() {
                    return Err(Error::InvalidArgument(
                        "labels are for a gateway, and there is none".to_owned(),
                    ));
                }
                Ok(Encapsulation::Labels(labels.into()))
            }
        }
    }

    fn check_segments(&self, lease: &Lease, segments: &[Ipv6Addr]) -> Result<(), Error> {
        let Some(last) = segments.last() else {
            return Err(Error::InvalidArgument("there is no segment; the last one is the peer's".to_owned()));
        };
        check_count("segments", segments.len(), MOST_SEGMENTS)?;
        if lease.attributes.public_ipv6 != Some(*last) {
            return Err(Error::Denied(format!(
                "the last segment {last} is not an IPv6 address that the peer has published"
            )));
        }
        match segments.iter().find(|segment| !self.call.nodes.contains(segment)) {
            Some(stranger) => Err(Error::Denied(format!(
                "the segment {stranger} is not a public address of a node of this cluster"
            ))),
            None => Ok(()),
        }
    }
}

fn check_count(what: &str, count: usize, most: usize) -> Result<(), Error> {
    if count <= most {
        return Ok(());
    }
    Err(Error::LimitExceeded(format!("{count} {what} of a next hop; at most {most}")))
}

fn check_labels(labels: &[u32]) -> Result<(), Error> {
    if labels.is_empty() {
        return Err(Error::InvalidArgument("there is no label".to_owned()));
    }
    check_count("labels", labels.len(), MOST_LABELS)?;
    match labels.iter().find(|label| !LABELS.contains(label)) {
        Some(wrong) => Err(Error::InvalidArgument(format!(
            "the label {wrong} is not between {} and {}",
            LABELS.start(),
            LABELS.end()
        ))),
        None => Ok(()),
    }
}

/// `mode`: that of the device.
fn checked_tunnel(
    lease: &Lease,
    device: &Device,
    mode: ExternalMode,
    key: &wit::TunnelEncapsulation,
) -> Result<TunnelKey, Error> {
    let invalid = |text: String| Err(Error::InvalidArgument(text));
    let destination = convert::address(key.destination);
    if mode.family.is_some_and(|family| family != Family::of(destination)) {
        return invalid(format!("{destination} is not of the family of {device}"));
    }
    check_published(lease, destination)?;
    if let Some(id) = key.id.filter(|id| id.checked_shr(mode.id_bits).is_some_and(|rest| rest > 0)) {
        return invalid(match mode.id_bits {
            0 => format!("{device} has no number for the {id} to be"),
            bits => format!("the number {id} has more than the {bits} bits that {device} has for it"),
        });
    }
    if key.ttl == Some(0) {
        return invalid("a time to live of 0; none is said where the kernel is to choose it".to_owned());
    }
    if key.dscp > LAST_DSCP {
        return invalid(format!("the code point {} is not between 0 and {LAST_DSCP}", key.dscp));
    }
    Ok(TunnelKey { destination, id: key.id, ttl: key.ttl, dscp: key.dscp })
}

#[cfg(test)]
mod tests {
    use flannel_model::lease::{Attributes, Subnets};

    use super::*;
    use crate::bindings::flannel::backend::types::IpAddress;

    #[test]
    fn a_tunnel_leads_to_the_peer_with_what_the_device_can_say() {
        let attributes = Attributes {
            public_ip: Some([192, 168, 0, 3].into()),
            public_ipv6: Some("fd77::3".parse().expect("an address")),
            ..Attributes::default()
        };
        let subnets = Subnets { v4: "10.5.3.0/24".parse().ok(), v6: None };
        let lease = Lease { subnets, attributes, expires: None };
        let device = Device::Own("flannel-gre".into());
        let (gre, ipip) = (
            ExternalMode { family: Some(Family::Ipv4), id_bits: 32 },
            ExternalMode { family: Some(Family::Ipv4), id_bits: 0 },
        );
        let ip6tnl = ExternalMode { family: Some(Family::Ipv6), id_bits: 0 };
        let to = |text: &str| convert::address_out(text.parse().expect("an address"));
        let key =
            |destination: IpAddress| wit::TunnelEncapsulation { destination, id: None, ttl: None, dscp: 0 };
        let peer = || key(to("192.168.0.3"));
        let full = wit::TunnelEncapsulation { id: Some(u32::MAX.into()), ttl: Some(255), dscp: 63, ..peer() };
        let checked = checked_tunnel(&lease, &device, gre, &full).expect("right");
        assert_eq!((checked.id, checked.ttl, checked.dscp), (Some(u32::MAX.into()), Some(255), 63));
        checked_tunnel(&lease, &device, ip6tnl, &key(to("fd77::3"))).expect("right");
        let geneve = ExternalMode { family: None, id_bits: 24 };
        for public in ["192.168.0.3", "fd77::3"] {
            checked_tunnel(&lease, &device, geneve, &key(to(public))).expect("right");
        }
        for (mode, wrong, words) in [
            (gre, key(to("fd77::3")), "fd77::3 is not of the family of flannel-gre"),
            (ip6tnl, peer(), "192.168.0.3 is not of the family of flannel-gre"),
            (gre, key(to("192.168.0.4")), "192.168.0.4 is not an address that the peer has published"),
            (gre, wit::TunnelEncapsulation { id: Some(1 << 32), ..peer() }, "more than the 32 bits"),
            (ipip, wit::TunnelEncapsulation { id: Some(1), ..peer() }, "flannel-gre has no number"),
            (gre, wit::TunnelEncapsulation { ttl: Some(0), ..peer() }, "a time to live of 0"),
            (gre, wit::TunnelEncapsulation { dscp: 64, ..peer() }, "64 is not between 0 and 63"),
        ] {
            let error = checked_tunnel(&lease, &device, mode, &wrong).expect_err(words);
            assert!(format!("{error:?}").contains(words), "{words:?} is not in {error:?}");
        }
    }
}
