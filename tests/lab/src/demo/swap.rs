//! One plugin in another's place while packets flow.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::DemoOptions;
use super::narrator::Step;
use crate::{Backend, Cluster, Pings, artifacts};

/// How often the plugin is swapped.
const SWAPS: usize = 20;

/// Swaps the first node's plugin for another build of the same policy, and back, again and again.
pub fn back_and_forth(
    step: &mut Step,
    cluster: &Cluster,
    pings: &Pings,
    options: &DemoOptions,
) -> Result<()> {
    let first = options.plugin.clone().context("the plugin")?;
    let second = other_build(options).unwrap_or_else(|| first.clone());
    let marks = pings.mark();
    let (mut messages, mut longest) = (0, 0);
    for round in 0..SWAPS {
        let swapped = cluster.swap(0, if round % 2 == 0 { &second } else { &first })?;
        messages += swapped["messages"].as_u64().context("messages")?;
        // The first time a component is compiled.
        if round > 1 {
            longest = longest.max(swapped["took_us"].as_u64().context("took_us")?);
        }
    }
    pings.flow()?;
    let report = pings.since(&marks)?;
    step.figure("swaps", SWAPS);
    step.figure("sent", report.sent);
    step.figure("lost", report.lost);
    step.figure("netlink_messages", messages);
    step.figure("longest_us", longest);
    ensure!(report.lost == 0, "{} of {} packets were lost", report.lost, report.sent);
    ensure!(messages == 0, "{messages} netlink messages, although the policies agree");
    let milliseconds = longest.div_ceil(1000);
    step.detail(format!(
        "{SWAPS} while packets flow: 0 of {} lost, 0 changes to the kernel, at most {milliseconds} ms each",
        report.sent
    ));
    Ok(())
}

/// Another build of the policy that is shown, if the tests have one.
fn other_build(options: &DemoOptions) -> Option<PathBuf> {
    let is_shown = options.backend == Backend::Vxlan && !options.ipv6;
    is_shown.then(|| artifacts::component("vxlan-next").ok()).flatten()
}
