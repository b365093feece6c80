//! What has to hold when all faults are healed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::scene::Scene;
use crate::snapshot::Snapshot;
use crate::{change, wait};

/// How long no packet may be lost then.
const QUIET: Duration = Duration::from_millis(1500);
/// Longer than the daemons' usual time between two looks at their firewall rules.
const LONGER_THAN_A_RESYNC: Duration = Duration::from_secs(6);

/// How a cluster has settled.
pub struct Settled {
    /// How long that took.
    pub after: Duration,
    /// A node has another subnet than before, and so another pod.
    pub replaced: bool,
    /// The nodes whose daemons ended at their start, and were started again.
    pub revived: Vec<usize>,
}

/// Waits until all nodes are ready and serve each other, all pods reach each other, and nodes have what they had.
pub fn settled(scene: &mut Scene) -> Result<Settled> {
    let begin = Instant::now();
    let revived = all_served(scene)?;
    if !scene.setting.changing.is_empty() {
        change::wait_at_rest(&mut scene.cluster, &scene.setting.backend.section())?;
    }
    scene.cluster.wait_converged()?;
    let replaced = pods_fit(scene)?;
    pods_reach_each_other(scene)?;
    let leases = scene.cluster.store().leases()?;
    let after = if let Some(before) = scene.known.get(&leases) {
        nodes_are_as_before(scene, before)?;
        begin.elapsed()
    } else {
        // With other leases nodes have something else, which is what they are to have with these from now on.
        let after = begin.elapsed();
        let nodes = unchanging(scene)?;
        scene.known.insert(leases.clone(), nodes);
        after
    };
    scene.leases = leases;
    scene.logs.nothing_bad()?;
    Ok(Settled { after, replaced, revived })
}

/// The TCP connection goes on, and nothing is lost for a while.
pub fn quiet(scene: &Scene) -> Result<()> {
    scene.stream()?.goes_on()?;
    let marks = scene.traffic()?.mark();
    std::thread::sleep(wait::scaled(QUIET));
    let packets = scene.traffic()?.since(&marks)?;
    ensure!(packets.lost == 0, "nothing is wrong any more, and packets are lost: {packets:?}");
    Ok(())
}

/// Answers which daemons had to be started again: one that starts in the midst of a fault may end, and a service manager starts it again.
fn all_served(scene: &mut Scene) -> Result<Vec<usize>> {
    let nodes = scene.setting.nodes;
    let mut revived = Vec::new();
    wait::until_equal("all nodes are ready and serve each other", || {
        let leases = scene.cluster.store().leases()?.len();
        if leases != nodes {
            return Ok(Some(format!("{nodes} nodes have {leases} leases")));
        }
        for index in 0..nodes {
            let daemon = scene.cluster.daemon(index)?;
            if !daemon.runs()? {
                let log = daemon.log();
                if log.find("ready").is_some() || revived.contains(&index) {
                    bail!("node{}: the daemon has ended; it said last:\n{}", index + 1, log.tail());
                }
                revived.push(index);
                scene.cluster.launch(index)?;
            }
            // A daemon that has just started does not answer yet.
            let wrong = match scene.cluster.status(index) {
                Ok(status) => wrong(&status, nodes - 1).or_else(|| wrong_file(scene, index, &status)),
                Err(error) => Some(format!("{error:#}")),
            };
            if let Some(wrong) = wrong {
                return Ok(Some(format!("node{}: {wrong}", index + 1)));
            }
        }
        Ok(None)
    })?;
    Ok(revived)
}

/// What is wrong in a daemon's own words; none: nothing.
fn wrong(status: &Value, peers: usize) -> Option<String> {
    let there = status["peers"].as_array().map_or(&[][..], Vec::as_slice);
    let is_well = |peer: &Value| peer["problems"].as_array().is_some_and(Vec::is_empty);
    let parts = [
        (status["ready"]["ready"] == true, "ready"),
        (there.len() == peers && there.iter().all(is_well), "peers"),
        (status["store"]["ok"] == true, "store"),
        (status["datapath"]["device_error"].is_null(), "datapath"),
        (
            status["datapath"]["entries"]["failed"] == 0 && status["datapath"]["entries"]["waiting"] == 0,
            "datapath",
        ),
        (status["firewall"].is_null() || status["firewall"]["ok"] == true, "firewall"),
        (status["plugin"]["trouble"].is_null() && status["plugin"]["suspended"] != true, "plugin"),
    ];
    parts.into_iter().find(|(well, _)| !well).map(|(_, part)| format!("{part}: {}", status[part]))
}

/// What is wrong in the subnet file, which may just have been damaged; none: nothing.
fn wrong_file(scene: &Scene, index: usize, status: &Value) -> Option<String> {
    match scene.cluster.subnets(index) {
        Ok(subnets) => {
            let lease = &status["lease"]["subnets"];
            (*lease != json!(subnets))
                .then(|| format!("the subnet file has {subnets:?}, and the lease {lease}"))
        }
        Err(error) => Some(format!("{error:#}")),
    }
}

/// A node with another subnet gets another pod.
fn pods_fit(scene: &mut Scene) -> Result<bool> {
    let nodes = 0..scene.setting.nodes;
    let now = nodes.map(|index| scene.cluster.subnets(index)).collect::<Result<Vec<_>>>()?;
    let known = std::mem::replace(&mut scene.subnets, now);
    let mut replaced = false;
    for (index, before) in known.iter().enumerate() {
        if *before != scene.subnets[index] {
            scene.cluster.replace_pod(index)?;
            replaced = true;
        }
    }
    Ok(replaced)
}

fn pods_reach_each_other(scene: &Scene) -> Result<()> {
    let count = scene.setting.nodes;
    let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
    for (from, to) in pairs.filter(|(from, to)| from != to) {
        wait::until_equal(&format!("the pod of node{} reaches that of node{}", from + 1, to + 1), || {
            let pod = scene.cluster.pod(from)?;
            let Err(error) = pod.reaches(scene.cluster.pod(to)?) else { return Ok(None) };
            // While an MTU was smaller a pod may have been told so, which its kernel believes for ten minutes.
            for family in ["-4", "-6"] {
                pod.namespace().ip(&format!("{family} route flush cache"))?;
            }
            Ok(Some(format!("{error:#}")))
        })?;
    }
    Ok(())
}

fn nodes_are_as_before(scene: &Scene, before: &[Snapshot]) -> Result<()> {
    for (index, before) in before.iter().enumerate() {
        wait::until_equal(&format!("node{} has what it had", index + 1), || {
            Ok(before.difference(&scene.snapshot(index)?))
        })
        .context("`-` is missing, `+` was not there")?;
    }
    Ok(())
}

/// What nodes have once nothing changes any more, for as long as it takes until damage to the firewall is seen.
fn unchanging(scene: &Scene) -> Result<Vec<Snapshot>> {
    let take = || (0..scene.setting.nodes).map(|index| scene.snapshot(index)).collect::<Result<Vec<_>>>();
    let mut last = take()?;
    wait::until_true("nodes do not change any more", || {
        std::thread::sleep(wait::scaled(LONGER_THAN_A_RESYNC));
        let now = take()?;
        Ok(now == std::mem::replace(&mut last, now.clone()))
    })?;
    Ok(last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::wrong;

    fn well() -> serde_json::Value {
        json!({
            "ready": {"ready": true}, "peers": [{"problems": []}], "store": {"ok": true},
            "datapath": {"device_error": null, "entries": {"failed": 0, "waiting": 0}}, "firewall": {"ok": true},
            "plugin": {},
        })
    }

    #[test]
    fn a_node_without_problems_is_well() {
        assert_eq!(wrong(&well(), 1), None);
    }

    #[test]
    fn whatever_is_wrong_is_said() {
        assert!(wrong(&well(), 2).is_some_and(|said| said.starts_with("peers")));
        let mut status = well();
        status["peers"][0]["problems"] = json!(["not believed"]);
        assert!(wrong(&status, 1).is_some_and(|said| said.contains("not believed")));
        let mut status = well();
        status["firewall"]["ok"] = json!(false);
        assert!(wrong(&status, 1).is_some_and(|said| said.starts_with("firewall")));
    }
}
