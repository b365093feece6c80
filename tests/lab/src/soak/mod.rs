//! What `cargo xtask soak` goes through: faults of all kinds, at random, on a cluster with traffic, until the time is over.
//!
//! `run` is the table of contents. Faults come in groups of one to three. When a group is healed, all nodes have to be ready and to serve
//! each other, each pod has to reach each other, the nodes have to have what they had, and for a short while no packet may be lost. At
//! the end each node is compared with what a daemon makes of it that finds nothing.

mod changes;
mod check;
mod faults;
mod fresh;
mod group;
mod options;
mod report;
mod scene;
mod setting;
mod stream;
mod watch;

pub use options::SoakOptions;
pub use setting::StoreKind;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::interrupt::Interrupt;
use crate::ping_probe::Report as Packets;
use crate::privileges;
use crate::random::Random;
use changes::Change;
use check::Settled;
use faults::Fault;
use report::{Record, Report, resources, say};
use scene::Scene;
use setting::Setting;

/// Goes through everything. An error says what did not hold, with the seed and the last faults.
///
/// Without the privileges that it takes, the program is started again in a user namespace, so this should be called before anything
/// else is done.
pub fn run(options: &SoakOptions) -> Result<()> {
    privileges::ensure()?;
    let mut random = options.seed.map_or_else(Random::from_environment, |seed| Ok(Random::new(seed)))?;
    let seed = random.seed();
    let setting = Setting::choose(options, &mut random)?;
    ensure!(group::is_there_any(&setting), "no fault of {setting} has any of {:?} in its name", options.only);
    let mut report = Report::begin();
    say(&format!("--seed {seed}: {setting}, {} minutes\n", options.minutes));
    let mut scene = Scene::prepare(setting, random)?;
    let _interrupt = Interrupt::arm(scene.cluster.lab().directory())?;
    let outcome = all(&mut scene, options, &mut report);
    report.table();
    let Err(error) = outcome else {
        say("All held.");
        return Ok(());
    };
    let kept =
        scene.keep_logs().map_or_else(|error| format!("not kept: {error:#}"), |at| at.display().to_string());
    Err(error.context(format!(
        "--seed {seed} ({}) did not hold; logs and leases: {kept}\nthe last faults:\n{}\nwhat was wrong",
        scene.setting,
        report.last()
    )))
}

fn all(scene: &mut Scene, options: &SoakOptions, report: &mut Report) -> Result<()> {
    scene.bring_up()?;
    say("all nodes are ready, and all pods reach each other");
    let end = Instant::now() + options.time();
    while Instant::now() < end {
        one_group(scene, report)?;
    }
    say("\nthe time is over: all nodes are made anew, and compared");
    let old = scene.resources()?;
    fresh::compare(scene)?;
    resources(&old, &scene.resources()?);
    Ok(())
}

/// What a change of the backend is called among the faults.
const CHANGED: &str = "backend changed";
/// A change has gone on for that long, at most, when the first fault comes.
const LONGEST_BEFORE: Duration = Duration::from_secs(6);

/// Faults that overlap, their end, and what has to hold then.
fn one_group(scene: &mut Scene, report: &mut Report) -> Result<()> {
    let marks = scene.traffic()?.mark();
    let change = if scene.setting.changing.is_empty() { None } else { Some(Change::begin(scene)?) };
    if let Some(change) = &change {
        report.begun(CHANGED, &change.told());
        std::thread::sleep(group::pause(&mut scene.random, LONGEST_BEFORE));
    }
    let group = group::choose(&mut scene.random, &scene.setting);
    let costs: Vec<_> = group.iter().map(|(kind, _)| kind.cost).collect();
    let mut faults: Vec<(&'static str, Fault)> = Vec::new();
    for (kind, node) in group {
        let fault = (kind.begin)(scene, node).with_context(|| format!("{} cannot be made", kind.name))?;
        report.begun(kind.name, &fault.told());
        faults.push((kind.name, fault));
        // Not longer on a slow machine: nobody waits for anything.
        std::thread::sleep(group::pause(&mut scene.random, kind.longest));
    }
    let mut healed = Vec::new();
    while !faults.is_empty() {
        let (name, fault) = faults.swap_remove(scene.random.below(faults.len()));
        let told = fault.told();
        fault.heal(scene).with_context(|| format!("{told}: cannot be healed"))?;
        healed.push((name, told));
    }
    let Settled { after, replaced, revived } = check::settled(scene)?;
    if let Some(change) = change {
        healed.push((CHANGED, change.end(&costs)?));
    }
    let packets: Packets = scene.traffic()?.since(&marks)?;
    if replaced {
        scene.start_traffic()?;
    }
    report.healed(Record { faults: healed, converged: after, packets, replaced, revived });
    check::quiet(scene)
}
