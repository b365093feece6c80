//! Changes of the backend, in the midst of which faults are made.

use anyhow::{Result, ensure};

use super::faults::Cost;
use super::scene::Scene;
use crate::{Backend, Pod, Traffic};

/// A change that has begun, with traffic of which each packet is counted.
pub struct Change {
    from: Backend,
    to: Backend,
    traffic: Traffic,
}

impl Change {
    /// Has the network config ask for another backend.
    pub fn begin(scene: &mut Scene) -> Result<Self> {
        let from = scene.setting.backend;
        let others: Vec<Backend> =
            scene.setting.changing.iter().copied().filter(|backend| *backend != from).collect();
        let to = *scene.random.one_of(&others);
        let traffic = Traffic::start(neighbours(&scene.cluster.pods().collect::<Vec<_>>()))?;
        scene.setting.backend = to;
        scene.cluster.store().put_config(&scene.setting.config())?;
        Ok(Self { from, to, traffic })
    }

    /// From which backend to which.
    pub fn told(&self) -> String {
        format!("from {} to {}", self.from, self.to)
    }

    /// What became of the traffic, in words. It is an error that packets were lost unless some fault explains it, and that a connection broke or
    /// had other bytes in it.
    pub fn end(self, costs: &[Cost]) -> Result<String> {
        let told = self.told();
        let report = self.traffic.stop()?;
        let carried = self.from.is_the_daemon() || self.to.is_the_daemon();
        let is_explained = costs.iter().any(|cost| cost.explains(carried));
        let is_whole = report.streams.iter().all(|stream| stream.wrong.is_none());
        ensure!(
            is_whole && (is_explained || report.is_clean()),
            "{told}, and no fault explains it: {report}"
        );
        Ok(format!("{told}: {} of {} datagrams lost", report.lost(), report.sent()))
    }
}

/// Each pod with the next one, both ways.
fn neighbours<'p>(pods: &[&'p Pod]) -> Vec<(&'p Pod, &'p Pod)> {
    let pairs = pods.iter().zip(pods.iter().cycle().skip(1));
    pairs.flat_map(|(one, next)| [(*one, *next), (*next, *one)]).collect()
}
