//! Whose a device is. Ours is what carries our mark, and what has a name and a kind that flannel gives its devices: upstream marks
//! nothing. Anything else is somebody's, and stays as it is.

use flannel_model::entry::{DeviceSpec, is_flannel_device_name};
use ipnet::IpNet;
use netlink_packet_core::Nla;
use netlink_packet_route::link::{InfoData, InfoKind, InfoTun};

use super::{Observed, kind, takes_packets};
use crate::netlink::{NetlinkError, RequestSocket};

/// What a mark begins with; behind it are the cluster's networks.
const MARK: &str = "flanneld ";
/// The attribute that says whether a device of the kind `tun` is a TUN or a TAP device, and its value for the latter (`IFLA_TUN_TYPE` of
/// `linux/if_link.h`, `IFF_TAP` of `linux/if_tun.h`).
const TUN_TYPE: u16 = 3;
const TAP: u8 = 2;

/// This daemon, as far as devices know it.
#[derive(Debug)]
pub(crate) struct Owner {
    mark: String,
    /// The cluster's networks that are in force.
    in_force: Vec<IpNet>,
    /// The cluster's networks, those of before among them.
    networks: Vec<IpNet>,
}

impl Owner {
    /// `in_force`: the cluster's networks; `networks`: these, and those that it had before.
    pub(crate) fn new(in_force: &[IpNet], networks: Vec<IpNet>) -> Self {
        let listed: Vec<String> = in_force.iter().map(ToString::to_string).collect();
        Self { mark: format!("{MARK}{}", listed.join(",")), in_force: in_force.to_vec(), networks }
    }

    /// The cluster's networks, without those of before.
    pub(crate) fn in_force(&self) -> &[IpNet] {
        &self.in_force
    }

    /// What is written on our devices (`ip link show` calls it alias).
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// The cluster's networks, those of before among them.
    pub(crate) fn networks(&self) -> &[IpNet] {
        &self.networks
    }

    /// Whether a device is this daemon's by its mark, also by one of a run that knew fewer networks.
    fn has_mark(&self, found: &Observed) -> bool {
        let networks = found.alias.as_deref().and_then(|alias| alias.strip_prefix(MARK));
        let is_ours =
            |network: &str| network.parse().is_ok_and(|network: IpNet| self.networks.contains(&network));
        networks.is_some_and(|networks| networks.split(',').any(is_ours))
    }

    /// Whether a device is this daemon's by its mark.
    pub(crate) fn is_this_daemons(&self, found: &Observed) -> bool {
        self.has_mark(found)
    }

    /// Whether flannel has made a device: this daemon, or any flannel by its name and kind.
    pub(crate) fn is_flannels(&self, found: &Observed) -> bool {
        self.has_mark(found) || is_standard(found)
    }

    /// Refuses to touch what is there under the name of a device that is wanted, if it is not ours. `known`: the index that ours had when it
    /// was seen last.
    pub(crate) fn check(
        &self,
        socket: &mut RequestSocket,
        found: &Observed,
        wanted: &DeviceSpec,
        known: Option<u32>,
    ) -> Result<(), NetlinkError> {
        let Some(link) = &found.link else { return Ok(()) };
        let (name, is) = (wanted.name(), described(found));
        if *found.name != **name {
            let there = &found.name;
            return Err(NetlinkError::NotOurs(format!(
                "{name} is another name of {there}, which is {is}: take the name from it (`ip link property del dev {there} altname {name}`)"
            )));
        }
        // Numbers may be used again.
        let is_known = known == Some(link.index) && found.kind == Some(kind(wanted).0);
        if self.has_mark(found) || is_known {
            return Ok(());
        }
        if !is_standard(found) {
            let others = found.alias.as_deref().and_then(|alias| alias.strip_prefix(MARK));
            let whose = others.map_or_else(
                || format!("which is not flanneld's (its alias would say `{}`)", self.mark),
                |networks| format!("which is of the flanneld for {}", networks.escape_default()),
            );
            return Err(NetlinkError::NotOurs(format!(
                "there is {is} of this name, {whose}: rename or remove it, or give the plugin's device another name"
            )));
        }
        if !matches!(wanted, DeviceSpec::Tunnel(_)) {
            self.check_unused(found)?;
        }
        if let Some(master) = takes_packets(socket, found) {
            return Err(NetlinkError::NotOurs(format!(
                "there is {is} of this name, which somebody uses as a port of {master}: rename it, or take it out (`ip link set {name} nomaster`)"
            )));
        }
        Ok(())
    }

    /// Refuses a TUN device that another process has open. Of a marked one that may be the service manager.
    pub(crate) fn check_unused(&self, found: &Observed) -> Result<(), NetlinkError> {
        if found.kind == Some(InfoKind::Tun) && found.carrier && !self.has_mark(found) {
            return Err(NetlinkError::NotOurs(
                "another process has this TUN device open (`fuser -v /dev/net/tun`): stop it, or choose another backend"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

/// Whether a device has a name and a kind with which flannel, ours or upstream's, makes devices.
fn is_standard(found: &Observed) -> bool {
    let name = &found.name;
    let usual = match name.strip_prefix("flannel") {
        Some("-wg" | "-wg-v6") => InfoKind::Wireguard,
        Some("-ipsec") => InfoKind::Xfrm,
        Some(".ipip") => InfoKind::IpIp,
        Some(rest) if rest.starts_with(['.', '-']) => InfoKind::Vxlan,
        _ => InfoKind::Tun,
    };
    is_flannel_device_name(name) && found.kind == Some(usual) && !is_tap(found)
}

/// Whether it is a TAP device, which is of the kind `tun`, too.
fn is_tap(found: &Observed) -> bool {
    let Some(InfoData::Tun(options)) = &found.data else { return false };
    options.iter().any(|option: &InfoTun| {
        let mut value = vec![0; option.value_len()];
        option.emit_value(&mut value);
        option.kind() == TUN_TYPE && value == [TAP]
    })
}

/// What a device is, in words.
fn described(found: &Observed) -> String {
    match &found.kind {
        Some(InfoKind::Tun) if is_tap(found) => "a TAP device".to_owned(),
        Some(kind) => {
            let kind = kind.to_string();
            let article = if kind.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
            format!("{article} {kind} device")
        }
        None => "an interface of hardware, or of no kind".to_owned(),
    }
}
