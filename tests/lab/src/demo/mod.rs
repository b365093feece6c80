//! What `cargo xtask demo` shows: a cluster that comes up, carries packets, and goes on carrying them while it is damaged.
//!
//! `run` is the table of contents; each chapter is a module.

mod bring_up;
mod change;
mod cloud;
mod faults;
mod keep;
mod kubernetes;
mod membership;
mod narrator;
mod options;
mod outcome;
mod pings;
mod swap;
mod table;

pub use options::DemoOptions;
pub use outcome::{Outcome, StepOutcome};

use std::time::Instant;

use anyhow::{Context, Result};

use crate::interrupt::Interrupt;
use crate::{Backend, Cluster, Pings, artifacts, privileges};
use narrator::Narrator;

/// Shows everything. An error is a demo that could not even begin; steps that did not hold are in the outcome.
///
/// Without the privileges that it takes, the program is started again in a user namespace, so this should be called before anything
/// else is done.
pub fn run(options: &DemoOptions) -> Result<Outcome> {
    privileges::ensure()?;
    let options = options.resolved()?;
    let component_bytes = std::fs::metadata(options.plugin_file()?).context("the plugin")?.len();
    let begin = Instant::now();
    let mut narrator = Narrator::new(options.json);
    narrator.heading(&options, component_bytes);

    let mut outcome = Outcome {
        ok: true,
        backend: options.backend.name(),
        unsupported: None,
        nodes: options.nodes,
        ipv6: options.ipv6,
        etcd: options.etcd,
        kubernetes: options.kubernetes,
        component_bytes,
        seconds: 0.0,
        steps: Vec::new(),
    };
    if options.kubernetes {
        kubernetes::run(&mut narrator, &options, &mut outcome)?;
        return end(&narrator, outcome, begin);
    }
    if let Some((backend, reason)) = options.missing()? {
        narrator.say(&format!("{backend} cannot be shown here: {reason}"));
        outcome.unsupported = Some(reason);
        narrator.object(&outcome)?;
        return Ok(outcome);
    }

    let mut cluster = None;
    let mut interrupt = None;
    if narrator.step("network", |step| {
        let made = bring_up::network(step, &options)?;
        interrupt = Some(Interrupt::arm(made.lab().directory())?);
        cluster = Some(made);
        Ok(())
    }) && let Some(cluster) = &mut cluster
    {
        chapters(&mut narrator, cluster, &options)?;
    }

    let outcome = end(&narrator, outcome, begin)?;
    if let (true, Some(cluster), Some(interrupt)) = (options.keep, &cluster, &interrupt) {
        keep::until_interrupted(&narrator, cluster, interrupt);
    }
    Ok(outcome)
}

/// Sums up.
fn end(narrator: &Narrator, mut outcome: Outcome, begin: Instant) -> Result<Outcome> {
    outcome.ok = narrator.steps().iter().all(|step| step.ok);
    outcome.seconds = (begin.elapsed().as_secs_f64() * 1e3).round() / 1e3;
    outcome.steps = narrator.steps().to_vec();
    if outcome.unsupported.is_some() {
        narrator.object(&outcome)?;
    } else {
        narrator.summary(&outcome)?;
    }
    Ok(outcome)
}

fn chapters(narrator: &mut Narrator, cluster: &mut Cluster, options: &DemoOptions) -> Result<()> {
    let in_cloud = cluster.backend().is_cloud();
    if in_cloud {
        narrator.step("route table before", |step| cloud::before(step, cluster));
    }
    if !narrator.step("daemons", |step| bring_up::daemons(step, cluster)) {
        return Ok(());
    }
    narrator.step("nodes", |step| bring_up::nodes(step, cluster));
    if in_cloud {
        narrator.step("route table after", |step| cloud::after(step, cluster));
    }
    if !narrator.step("pods", |step| bring_up::pods(step, cluster)) {
        return Ok(());
    }
    if !cluster.backend().connects() {
        narrator.step("nothing programmed", |step| bring_up::nothing(step, cluster));
        narrator.step("memory", |step| bring_up::memory(step, cluster));
        return Ok(());
    }
    narrator.step("ping", |step| pings::matrix(step, cluster, pings::Size::Small));
    narrator.step("ping full-size", |step| pings::matrix(step, cluster, pings::Size::Full));
    narrator.step("ping too large", |step| pings::too_large(step, cluster));

    let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
    narrator.step("kill -9", |step| faults::kill(step, cluster, &pings));
    if options.swap {
        narrator.step("swaps", |step| swap::back_and_forth(step, cluster, &pings, options));
    }
    if let Some(backend) = options.change {
        narrator.step(&format!("change to {backend}"), |step| change::to(step, cluster, &pings, backend));
        narrator.step("ping full-size", |step| pings::matrix(step, cluster, pings::Size::Full));
        narrator.step("ping too large", |step| pings::too_large(step, cluster));
    }
    let in_cloud = cluster.backend().is_cloud();
    if in_cloud {
        // Without its row no packet gets to a node.
        narrator.step("running ping", |step| faults::running_ping(step, &pings));
        narrator.step("restart", |step| cloud::restart(step, cluster));
        narrator.step("a row deleted", |step| cloud::row_deleted(step, cluster));
        narrator.step("a full table", |step| cloud::table_full(step, cluster));
    }
    for damage in faults::damages(cluster)? {
        narrator.step(&damage.describe(), |step| faults::damage(step, cluster, &pings, &damage));
    }
    let mut newcomer = None;
    narrator.step("a node joins", |step| {
        newcomer = Some(membership::join(step, cluster)?);
        Ok(())
    });
    if let Some(newcomer) = newcomer {
        narrator.step("a node leaves", |step| membership::leave(step, cluster, newcomer));
    }
    if !in_cloud {
        narrator.step("running ping", |step| faults::running_ping(step, &pings));
    }
    narrator.step("memory", |step| bring_up::memory(step, cluster));
    Ok(())
}

impl DemoOptions {
    fn resolved(&self) -> Result<Self> {
        anyhow::ensure!(self.nodes >= 2, "a cluster of {} is none: --nodes 2 or more", self.nodes);
        anyhow::ensure!(!self.kubernetes || self.nodes <= 9, "there are at most nine nodes of Kubernetes");
        anyhow::ensure!(!self.ipv6 || self.backend.has_ipv6(), "{} has IPv4 only", self.backend);
        if let Some(backend) = self.change {
            anyhow::ensure!(!self.ipv6 || backend.has_ipv6(), "{backend} has IPv4 only");
            anyhow::ensure!(backend.connects(), "with {backend} no packets flow");
            let one_cloud = !(self.backend.is_cloud() && backend.is_cloud()) || backend == self.backend;
            anyhow::ensure!(
                one_cloud,
                "a node is in one cloud: not in those of {} and {backend}",
                self.backend
            );
        }
        let plugin = self.plugin.clone().map_or_else(|| artifacts::plugin(self.backend.name()), Ok)?;
        let binary = self.binary.clone().map_or_else(artifacts::flanneld, Ok)?;
        Ok(Self { plugin: Some(plugin), binary: Some(binary), ..self.clone() })
    }

    /// The backends that are shown.
    fn backends(&self) -> impl Iterator<Item = Backend> {
        [self.backend].into_iter().chain(self.change)
    }

    /// Which of them this machine cannot have, and why; none: it can have all.
    fn missing(&self) -> Result<Option<(Backend, String)>> {
        for backend in self.backends() {
            if let Some(reason) = backend.missing()? {
                return Ok(Some((backend, reason)));
            }
        }
        Ok(None)
    }

    fn plugin_file(&self) -> Result<&std::path::Path> {
        self.plugin.as_deref().context("the plugin's file")
    }
}
