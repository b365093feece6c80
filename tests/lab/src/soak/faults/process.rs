//! The daemons: away, hanging, told something, or with another plugin.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{Area, Fault, Kind, name};
use crate::soak::fresh;
use crate::soak::scene::Scene;
use crate::stopped_thread::StoppedThread;
use crate::{Backend, artifacts};

pub const KINDS: &[Kind] = &[
    Kind::new("kill -9", Area::Daemon, killed),
    Kind::new("SIGTERM", Area::Daemon, terminated),
    Kind::new("SIGSTOP", Area::Daemon, stopped),
    Kind::new("SIGHUP", Area::Daemon, |scene, node| signalled(scene, node, Signal::HUP, "SIGHUP")),
    Kind::new("SIGUSR1", Area::Daemon, |scene, node| signalled(scene, node, Signal::USR1, "SIGUSR1")),
    Kind::new("restarts in a row", Area::Daemon, restarts),
    Kind::new("loop stuck", Area::Daemon, stuck),
    Kind::new("all killed", Area::Alone, all_killed),
    Kind::new("reboot", Area::Control, reboot).costing_packets(),
    Kind::new("plugin swapped", Area::Control, swapped)
        // Whoever changes the backend has a plugin to swap to already.
        .where_(|setting| setting.changing.is_empty()),
    Kind::new("second daemon", Area::Control, second),
];

fn killed(scene: &mut Scene, index: usize) -> Result<Fault> {
    scene.cluster.take_daemon(index)?.kill9();
    Ok(Fault::new(name(index), move |scene| scene.cluster.launch(index).map(drop)))
}

fn terminated(scene: &mut Scene, index: usize) -> Result<Fault> {
    let status = scene.cluster.take_daemon(index)?.terminate()?;
    ensure!(status.success(), "SIGTERM ended it with {status}");
    Ok(Fault::new(name(index), move |scene| scene.cluster.launch(index).map(drop)))
}

fn stopped(scene: &mut Scene, index: usize) -> Result<Fault> {
    scene.cluster.daemon(index)?.signal(Signal::STOP)?;
    Ok(Fault::new(name(index), move |scene| scene.cluster.daemon(index)?.signal(Signal::CONT)))
}

fn signalled(scene: &mut Scene, index: usize, signal: Signal, what: &str) -> Result<Fault> {
    let times = 1 + scene.random.below(5);
    for _ in 0..times {
        scene.cluster.daemon(index)?.signal(signal)?;
    }
    Ok(Fault::left_alone(format!("{}: {times} times {what}", name(index))))
}

/// Each before the one before is ready, or just so.
fn restarts(scene: &mut Scene, index: usize) -> Result<Fault> {
    let times = 2 + scene.random.below(5);
    for _ in 0..times {
        scene.cluster.take_daemon(index)?.kill9();
        scene.cluster.launch(index)?;
        let pause = std::time::Duration::from_millis(scene.random.below(300) as u64);
        std::thread::sleep(pause);
    }
    Ok(Fault::left_alone(format!("{}: {times} times", name(index))))
}

/// The daemon's loop stands still, and its other threads go on.
fn stuck(scene: &mut Scene, index: usize) -> Result<Fault> {
    let stopped = StoppedThread::of(scene.cluster.daemon(index)?.pid())?;
    Ok(Fault::new(name(index), move |_| {
        drop(stopped);
        Ok(())
    }))
}

fn all_killed(scene: &mut Scene, _: usize) -> Result<Fault> {
    for index in 0..scene.setting.nodes {
        scene.cluster.take_daemon(index)?.kill9();
    }
    Ok(Fault::new("all nodes", |scene| {
        (0..scene.setting.nodes).try_for_each(|index| scene.cluster.launch(index).map(drop))
    }))
}

/// The kernel and `/run` are empty, and the state directory stays.
fn reboot(scene: &mut Scene, index: usize) -> Result<Fault> {
    scene.cluster.take_daemon(index)?.kill9();
    fresh::flush(scene, index)?;
    Ok(Fault::new(name(index), move |scene| scene.cluster.launch(index).map(drop)))
}

/// Another build of the policy takes over, where there is one, and the first one again.
fn swapped(scene: &mut Scene, index: usize) -> Result<Fault> {
    let backend = scene.setting.backend;
    let first = artifacts::plugin(backend.name())?;
    let second =
        artifacts::component("vxlan-next").ok().filter(|_| backend == Backend::Vxlan && !scene.setting.ipv6);
    let second = second.unwrap_or_else(|| first.clone());
    let times = 1 + scene.random.below(5);
    for _ in 0..times {
        scene.cluster.swap(index, &second).context("there")?;
        scene.cluster.swap(index, &first).context("and back")?;
    }
    Ok(Fault::left_alone(format!("{}: {times} times there and back", name(index))))
}

/// Another daemon for the same network is refused, and the first one goes on.
fn second(scene: &mut Scene, index: usize) -> Result<Fault> {
    let mut second = scene.cluster.node(index).start(scene.cluster.options())?;
    let status = second.wait_exit()?;
    ensure!(!status.success(), "a second daemon ended with {status}");
    ensure!(scene.cluster.daemon(index)?.runs()?, "the first daemon has ended");
    Ok(Fault::left_alone(name(index)))
}
