//! How things stand in a cluster whose backend is being changed, for whoever has to find out why it is not as it should be.

use std::fmt::Write;

use crate::log::{Log, LogLine};
use crate::state::KernelState;
use crate::{Cluster, Node};

use super::drops;

/// Lines of each log that are shown.
const LINES: usize = 80;

/// All leases; and of each node what its daemon says, what its kernel has, what it has dropped, and the end of the log. What cannot be
/// had is told in its place.
pub fn describe(cluster: &Cluster) -> String {
    let mut text = String::from("how things stand:\n");
    let leases = cluster.store().leases();
    add(
        &mut text,
        "leases",
        &leases.map_or_else(|error| format!("{error:#}"), |leases| format!("{leases:#?}")),
    );
    for (index, node) in cluster.lab().nodes().iter().enumerate() {
        let status = cluster.status(index);
        let told = status.map_or_else(
            |error| format!("{error:#}"),
            |status| {
                ["config", "change", "ready", "datapath", "plugin", "peers"]
                    .map(|part| format!("{part}: {}", status[part]))
                    .join("\n")
            },
        );
        add(&mut text, &format!("{} status", node.name()), &told);
        let state =
            KernelState::read(node).map_or_else(|error| format!("{error:#}"), |state| state.to_string());
        add(&mut text, &format!("{} kernel", node.name()), &state);
        add(&mut text, &format!("{} rules and tables", node.name()), &tables(node));
        add(&mut text, &format!("{} has dropped", node.name()), &drops::read(node.namespace()));
        let lines = Log::whole(&node.directory().join("flanneld.log")).lines();
        let last: Vec<&str> = lines[lines.len().saturating_sub(LINES)..].iter().map(LogLine::raw).collect();
        add(&mut text, &format!("{} log", node.name()), &last.join("\n"));
    }
    text
}

fn add(text: &mut String, heading: &str, what: &str) {
    // A string takes all that is written to it.
    let _ = writeln!(text, "--- {heading}\n{}", what.trim_end());
}

/// Rules, routes of all tables but what the kernel itself has made, and what is on the loopback interface.
fn tables(node: &Node) -> String {
    let commands = [
        "-4 rule show",
        "-6 rule show",
        "-4 route show table all",
        "-6 route show table all",
        "address show dev lo",
    ];
    let told = commands.map(|command| node.ip(command).unwrap_or_else(|error| format!("{error:#}")));
    let lines = told.iter().flat_map(|text| text.lines()).filter(|line| !line.contains("proto kernel"));
    lines.collect::<Vec<_>>().join("\n")
}
