//! How much a node asks of a large cluster in a change.

use std::time::Instant;

use anyhow::{Result, ensure};
use flannel_lab::bench::echo_requests;
use flannel_lab::crowd::{CONFIG, Crowd, Phase};
use flannel_lab::{Cluster, ClusterOptions, change, wait};

use super::HOST_GW;

const PEERS: u32 = 200;
/// Echo requests for each peer: a small one and two of the full size.
const EACH: u32 = 3;
/// A second, at most.
const PACE: f64 = 100.0;

#[test]
fn a_node_sends_at_most_a_hundred_echo_requests_a_second_and_three_to_each_peer() -> Result<()> {
    let options = ClusterOptions { nodes: 1, config: CONFIG.to_owned(), ..ClusterOptions::default() };
    let mut cluster = Cluster::prepare(&options)?;
    let crowd = Crowd::join(&cluster, PEERS)?;
    cluster.start_all()?;
    crowd.answer(&cluster)?;
    crowd.publish(&cluster, Phase::Before)?;
    wait::until_true("all are known", || {
        Ok(cluster.status(0)?["peers"].as_array().is_some_and(|peers| peers.len() == 200))
    })?;
    let begin = Instant::now();
    change::put(&cluster, HOST_GW)?;
    crowd.publish(&cluster, Phase::Begun)?;
    wait::until_true("all have moved", || Ok(cluster.status(0)?["change"]["moved"] == PEERS))?;
    let took = begin.elapsed().as_secs_f64();
    let sent = echo_requests(&cluster)?;
    ensure!(
        sent >= u64::from(PEERS * EACH),
        "{sent} echo requests for {PEERS} peers: {}",
        change::describe(&cluster)
    );
    let most = u32::try_from(sent)?;
    ensure!(f64::from(most - 1) / PACE <= took, "{sent} echo requests in {took} s");
    crowd.publish(&cluster, Phase::Moved)?;
    wait::until_true("the end begins", || Ok(cluster.status(0)?["change"]["phase"] == "retiring"))?;
    crowd.publish(&cluster, Phase::After)?;
    change::wait_at_rest(&mut cluster, HOST_GW).map(drop)
}
