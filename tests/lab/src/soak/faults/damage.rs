//! What somebody deletes, or puts in the way, by hand.

use anyhow::{Context, Result};

use super::{Area, Fault, Kind, name, other};
use crate::Backend;
use crate::soak::scene::Scene;

pub const KINDS: &[Kind] = &[
    Kind::new("routes deleted", Area::Node, routes),
    Kind::new("neighbours deleted", Area::Node, neighbours)
        .where_(|setting| setting.backend == Backend::Vxlan),
    Kind::new("FDB deleted", Area::Node, fdb).where_(|setting| setting.backend == Backend::Vxlan),
    Kind::new("device deleted", Area::Node, device).where_(|setting| has_devices(setting.backend)),
    Kind::new("device down", Area::Node, device_down).where_(|setting| has_devices(setting.backend)),
    Kind::new("foreign route", Area::Node, foreign_route)
        .where_(|setting| setting.backend.routes_each_peer()),
    Kind::new("nexthops flushed", Area::Node, nexthops),
    Kind::new("firewall flushed", Area::Node, firewall).where_(|setting| setting.firewall.is_some()),
];

fn has_devices(backend: Backend) -> bool {
    !backend.devices(false).is_empty()
}

/// Does something to some of a node's lines, which may be gone for another reason before.
fn some(
    scene: &mut Scene,
    index: usize,
    what: &str,
    lines: Vec<String>,
    tool: &str,
    words: fn(&str) -> String,
) -> Fault {
    let chosen: Vec<String> = lines.into_iter().filter(|_| scene.random.below(2) == 0).collect();
    let node = scene.cluster.node(index).namespace();
    let done = chosen.iter().filter(|line| node.tool(tool, &words(line)).is_ok()).count();
    Fault::left_alone(format!("{}: {done} {what}", name(index)))
}

fn routes(scene: &mut Scene, index: usize) -> Result<Fault> {
    let lines = scene.cluster.state(index)?.routes;
    Ok(some(scene, index, "routes", lines, "ip", |line| {
        format!("route delete {}", line.split(' ').next().unwrap_or_default())
    }))
}

fn neighbours(scene: &mut Scene, index: usize) -> Result<Fault> {
    let lines = scene.cluster.state(index)?.neighbours;
    // `10.5.3.0 dev flannel.1 lladdr …`
    Ok(some(scene, index, "neighbours", lines, "ip", |line| {
        format!("neigh delete {}", line.split(" lladdr").next().unwrap_or_default())
    }))
}

fn fdb(scene: &mut Scene, index: usize) -> Result<Fault> {
    let lines = scene.cluster.state(index)?.fdb;
    // `9e:… dev flannel.1 dst 192.168.77.12 self permanent`
    Ok(some(scene, index, "entries", lines, "bridge", |line| {
        format!("fdb delete {}", line.trim_end_matches(" permanent"))
    }))
}

fn one_device(scene: &mut Scene) -> &'static str {
    let devices = scene.setting.backend.devices(scene.setting.ipv6);
    scene.random.one_of::<&'static str>(&devices)
}

fn device(scene: &mut Scene, index: usize) -> Result<Fault> {
    damaged_device(scene, index, |device| format!("link delete {device}"))
}

fn device_down(scene: &mut Scene, index: usize) -> Result<Fault> {
    damaged_device(scene, index, |device| format!("link set {device} down"))
}

/// The device may be away with the daemon that has it.
fn damaged_device(scene: &mut Scene, index: usize, command: fn(&str) -> String) -> Result<Fault> {
    let device = one_device(scene);
    let node = scene.cluster.node(index);
    let there = node.ip("-oneline link show")?.contains(&format!(" {device}:"));
    // Between the two it may have gone.
    let done = there && node.ip(&command(device)).is_ok();
    Ok(Fault::left_alone(format!("{}: {device}{}", name(index), if done { "" } else { " was not there" })))
}

/// Somebody's route takes the place of the one to a peer.
fn foreign_route(scene: &mut Scene, index: usize) -> Result<Fault> {
    let peer = other(scene, index);
    let subnet = scene.subnets[peer].first().context("a subnet")?.clone();
    let route = format!("{subnet} via 192.168.77.1");
    scene.cluster.node(index).ip(&format!("route replace {route}"))?;
    Ok(Fault::new(format!("{}: {route}", name(index)), move |scene| {
        // The daemon may have had its own back at once.
        let _ = scene.cluster.node(index).ip(&format!("route delete {route}"));
        Ok(())
    }))
}

fn nexthops(scene: &mut Scene, index: usize) -> Result<Fault> {
    scene.cluster.node(index).ip("nexthop flush")?;
    Ok(Fault::left_alone(name(index)))
}

fn firewall(scene: &mut Scene, index: usize) -> Result<Fault> {
    if let Some(firewall) = scene.setting.firewall {
        firewall.flush(scene.cluster.node(index))?;
    }
    Ok(Fault::left_alone(name(index)))
}
