//! Packets between two pods on two nodes: over the bare link, over the kernel's VXLAN, and through the daemon's own tunnel. All
//! clusters are there at the same time and are measured in turn, so that whatever else the machine does meets all alike.

mod cpu;
mod load;
mod rig;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

pub use load::Iperf3;
use rig::{Rig, Way};

/// How many peers are many.
const MANY: u32 = 10_000;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct TunnelOptions {
    /// How long each measurement takes.
    pub time: Duration,
    /// How often each is made; the medians count.
    pub rounds: usize,
    /// Each offload by itself, too.
    pub each: bool,
    /// Another flanneld, which takes upstream's flags.
    pub reference: Option<PathBuf>,
    /// The program that makes streams.
    pub iperf3: Iperf3,
}

/// What came of one way: medians.
#[derive(Clone, Debug, Serialize)]
pub struct TunnelFigures {
    /// Which way.
    pub way: String,
    /// Gbit/s of one TCP stream.
    pub tcp1_gbits: f64,
    /// Gbit/s of four TCP streams together.
    pub tcp4_gbits: f64,
    /// CPU seconds of both daemons for each GB (10⁹ bytes) of the one stream.
    pub daemons_s_per_gb: f64,
    /// CPU seconds of the whole machine for it, with those of sender and receiver.
    pub machine_s_per_gb: f64,
    /// Datagrams of 64 bytes received a second.
    pub small_per_s: f64,
    /// Microseconds, half of the way there and back of one datagram at a time: the median.
    pub latency_p50_us: f64,
    /// The 99th percentile.
    pub latency_p99_us: f64,
}

/// All ways of a run: the bare link, VXLAN, and then the tunnels; at the end that with `MANY` peers.
pub fn tunnel(options: &TunnelOptions, mut progress: impl FnMut(&str)) -> Result<Vec<TunnelFigures>> {
    let mut ways = vec![Way::Bare, Way::Vxlan, Way::Udp("none")];
    if options.each {
        ways.extend(["tso", "gso", "gro"].map(Way::Udp));
    }
    ways.push(Way::Udp("tso,gso,gro"));
    ways.extend(options.reference.clone().map(Way::Reference));
    ways.push(Way::Many(MANY));
    let mut rigs = Vec::new();
    for way in ways {
        progress(&format!("{way}: starting"));
        rigs.push((Rig::build(&way).with_context(|| way.to_string())?, way, Vec::new()));
    }
    for round in 1..=options.rounds {
        for (rig, way, results) in &mut rigs {
            progress(&format!("round {round} of {}: {way}", options.rounds));
            results.push(measure(rig, options).with_context(|| way.to_string())?);
        }
    }
    Ok(rigs.into_iter().map(|(_, way, results)| medians(&way, &results)).collect())
}

/// In the order of the fields of [`TunnelFigures`].
fn measure(rig: &Rig, options: &TunnelOptions) -> Result<[f64; 7]> {
    let [one, other] = rig.pods()?;
    let (daemons, machine) = (cpu::of(rig.processes())?, cpu::of_machine()?);
    let stream = load::streams(&options.iperf3, one, other, 1, options.time)?;
    let gb = stream.bytes / 1e9;
    let daemons = (cpu::of(rig.processes())? - daemons) / gb;
    let machine = (cpu::of_machine()? - machine) / gb;
    let four = load::streams(&options.iperf3, one, other, 4, options.time)?;
    let small = load::small(one, other, options.time)?;
    let (p50, p99) = load::latency(one, other, options.time)?;
    Ok([stream.gbits, four.gbits, daemons, machine, small, p50, p99])
}

fn medians(way: &Way, results: &[[f64; 7]]) -> TunnelFigures {
    let median = |figure: usize| {
        let mut values: Vec<f64> = results.iter().map(|result| result[figure]).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    TunnelFigures {
        way: way.to_string(),
        tcp1_gbits: median(0),
        tcp4_gbits: median(1),
        daemons_s_per_gb: median(2),
        machine_s_per_gb: median(3),
        small_per_s: median(4),
        latency_p50_us: median(5),
        latency_p99_us: median(6),
    }
}
