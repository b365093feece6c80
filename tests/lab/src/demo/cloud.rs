//! What is to be seen in a cloud's route table.

use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde_json::json;

use super::narrator::Step;
use super::table::lay_out;
use crate::cloud::TableRow;
use crate::ping_probe::millis;
use crate::{Cluster, Place, wait};

/// Shows the table before any daemon runs.
pub fn before(step: &mut Step, cluster: &Cluster) -> Result<()> {
    let table = cluster.cloud()?.table()?;
    ensure!(table.is_empty(), "there are rows already: {table:?}");
    step.figure("rows", 0);
    step.detail("no row but the cloud's own");
    Ok(())
}

/// Shows the table with a row for each node.
pub fn after(step: &mut Step, cluster: &Cluster) -> Result<()> {
    let table = cluster.cloud()?.table()?;
    let headings = ["destination", "next hop", "node", "address", "in"].map(ToOwned::to_owned).to_vec();
    let mut rows = vec![headings];
    let mut figures = Vec::new();
    for index in 0..cluster.lab().nodes().len() {
        let row = row_of(&table, cluster, index)?;
        let (name, address) = (cluster.node(index).name(), cluster.node(index).address().to_string());
        let destination = row.destination.to_string();
        figures.push(json!({ "destination": destination, "hop": row.hop, "node": name }));
        rows.push(vec![destination, row.hop.clone(), name.to_owned(), address, row.name.clone()]);
    }
    step.figure("rows", figures);
    step.figure("mutations", cluster.cloud()?.mutations());
    step.detail(format!("{} rows, each to its own node", table.len()));
    step.show(lay_out(&rows));
    Ok(())
}

fn subnet(cluster: &Cluster, index: usize) -> Result<IpNet> {
    Ok(cluster.subnets(index)?.first().context("a subnet")?.parse()?)
}

fn row_of<'t>(table: &'t [TableRow], cluster: &Cluster, index: usize) -> Result<&'t TableRow> {
    let subnet = subnet(cluster, index)?;
    let address: IpAddr = cluster.node(index).address().into();
    let row = table.iter().find(|row| row.destination == subnet && row.node == Some(address));
    row.with_context(|| format!("no row leads to {} for {subnet}: {table:#?}", cluster.node(index).name()))
}

/// Restarts a daemon: nothing that is right is touched.
pub fn restart(step: &mut Step, cluster: &mut Cluster) -> Result<()> {
    let before = cluster.cloud()?.mutations();
    cluster.kill_and_restart(0)?;
    wait::until_true("the daemon has looked at the table", || {
        Ok(cluster.status(0)?["plugin"]["calls"]["tick"].as_u64() > Some(0))
    })?;
    let changes = cluster.cloud()?.mutations() - before;
    ensure!(changes == 0, "{changes} calls that change something");
    step.figure("mutations", changes);
    step.detail("the daemon was killed and started again: it has read the table, and changed nothing");
    Ok(())
}

/// Deletes a node's row by hand, and watches it come back.
pub fn row_deleted(step: &mut Step, cluster: &Cluster) -> Result<()> {
    let gone = subnet(cluster, 1)?;
    cluster.cloud()?.delete_row(gone)?;
    step.progress("daemons look at their rows at least once a minute; waiting for that");
    let begin = Instant::now();
    wait::until_true("the row is back", || Ok(row_of(&cluster.cloud()?.table()?, cluster, 1).is_ok()))?;
    // A cloud lists a row before its routers have it.
    wait::until_true("packets pass again", || Ok(cluster.pod(0)?.reaches(cluster.pod(1)?).is_ok()))?;
    step.figure("back_after_ms", millis(begin.elapsed()));
    let seconds = begin.elapsed().as_secs_f64();
    step.detail(format!("the row for {gone} was deleted by hand, and back after {seconds:.0} s"));
    Ok(())
}

/// A node joins while there is no room in the table: it says so, and gets its row as soon as there is.
pub fn table_full(step: &mut Step, cluster: &mut Cluster) -> Result<()> {
    cluster.cloud()?.set_full(true)?;
    let index = cluster.add_node(Place::Near)?;
    cluster.launch(index)?.wait_ready()?;
    let (trouble, _) = wait::until("the daemon says that the table is full", || {
        let status = cluster.status(index)?;
        Ok(status["plugin"]["trouble"]["reason"].as_str().map(ToOwned::to_owned))
    })?;
    step.show(format!("\n     flanneld status on {}: {trouble}\n", cluster.node(index).name()));
    cluster.cloud()?.set_full(false)?;
    cluster.wait_converged()?;
    cluster.wire_pods()?;
    cluster.pod(index)?.reaches(cluster.pod(0)?)?;
    step.figure("trouble", trouble);
    step.detail("a node joined while the table was full; it said so, and got its row when there was room");
    Ok(())
}
