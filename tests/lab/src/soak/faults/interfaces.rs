//! The external interface: its carrier, its addresses, its routes, its MTU.

use anyhow::Result;

use super::{Area, Fault, Kind, name};
use crate::Node;
use crate::soak::scene::Scene;
use crate::wait;

pub const KINDS: &[Kind] = &[
    Kind::new("carrier lost", Area::Node, carrier),
    Kind::new("interface down", Area::Node, down),
    Kind::new("address removed", Area::Node, address),
    Kind::new("second address", Area::Node, second_address),
    Kind::new("default route removed", Area::Node, default_route),
    Kind::new("MTU changed", Area::Node, mtu),
    Kind::new("IPv6 disabled", Area::Node, ipv6_disabled).where_(|setting| setting.ipv6),
];

fn carrier(scene: &mut Scene, node: usize) -> Result<Fault> {
    scene.cluster.lab().switch().set_port(&name(node), false)?;
    Ok(Fault::new(name(node), move |scene| {
        scene.cluster.lab().switch().set_port(&name(node), true)?;
        // The kernel may take a second to notice it.
        let has_carrier = || Ok(!scene.cluster.node(node).ip("link show dev eth0")?.contains("NO-CARRIER"));
        wait::until_true("the carrier is back", has_carrier).map(drop)
    }))
}

fn down(scene: &mut Scene, node: usize) -> Result<Fault> {
    scene.cluster.node(node).ip("link set eth0 down")?;
    Ok(Fault::new(name(node), move |scene| {
        let node = scene.cluster.node(node);
        node.ip("link set eth0 up")?;
        configure(node)
    }))
}

/// Gives the interface again what it may have lost with an address.
fn configure(node: &Node) -> Result<()> {
    node.ip(&format!("address replace {}/24 dev eth0", node.address()))?;
    node.ip("route replace default via 192.168.77.1")?;
    if let Some(address) = node.address_v6() {
        node.ip(&format!("address replace {address}/64 dev eth0 nodad"))?;
        node.ip("route replace default via fd77::1 dev eth0")?;
    }
    Ok(())
}

fn address(scene: &mut Scene, index: usize) -> Result<Fault> {
    let node = scene.cluster.node(index);
    let mut gone = Vec::new();
    let which = scene.random.below(3);
    if which != 1 {
        gone.push(format!("{}/24", node.address()));
    }
    if which != 0 {
        gone.extend(node.address_v6().map(|address| format!("{address}/64")));
    }
    for address in &gone {
        node.ip(&format!("address delete {address} dev eth0"))?;
    }
    let told = format!("{}: {}", name(index), gone.join(" and "));
    Ok(Fault::new(told, move |scene| configure(scene.cluster.node(index))))
}

/// A virtual address that comes and goes, as keepalived's does.
fn second_address(scene: &mut Scene, index: usize) -> Result<Fault> {
    let number = 150 + scene.random.below(50);
    let length = *scene.random.one_of(&[24, 32]);
    let addresses = [
        format!("192.168.77.{number}/{length}"),
        format!("fd77::{number}/{}", 64 + 64 * usize::from(length == 32)),
    ];
    let node = scene.cluster.node(index);
    for address in &addresses {
        node.ip(&format!(
            "address add {address} dev eth0{}",
            if address.contains(':') { " nodad" } else { "" }
        ))?;
    }
    let told = format!("{}: {}", name(index), addresses.join(" and "));
    Ok(Fault::new(told, move |scene| {
        let node = scene.cluster.node(index);
        addresses
            .iter()
            .try_for_each(|address| node.ip(&format!("address delete {address} dev eth0")).map(drop))
    }))
}

fn default_route(scene: &mut Scene, index: usize) -> Result<Fault> {
    let node = scene.cluster.node(index);
    node.ip("route delete default")?;
    node.ip("-6 route delete default")?;
    Ok(Fault::new(name(index), move |scene| configure(scene.cluster.node(index))))
}

fn mtu(scene: &mut Scene, index: usize) -> Result<Fault> {
    let mtu = 1300 + scene.random.below(200);
    scene.cluster.node(index).ip(&format!("link set eth0 mtu {mtu}"))?;
    Ok(Fault::new(format!("{}: {mtu}", name(index)), move |scene| {
        scene.cluster.node(index).ip("link set eth0 mtu 1500").map(drop)
    }))
}

/// As where somebody sets the sysctl: the addresses go, and come back only if somebody gives them.
fn ipv6_disabled(scene: &mut Scene, index: usize) -> Result<Fault> {
    let disable = move |scene: &Scene, value| {
        scene.cluster.node(index).namespace().sysctls(&[("ipv6/conf/eth0/disable_ipv6", value)])
    };
    disable(scene, "1")?;
    Ok(Fault::new(name(index), move |scene| {
        disable(scene, "0")?;
        configure(scene.cluster.node(index))
    }))
}
