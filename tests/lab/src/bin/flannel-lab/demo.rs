//! The demo's command line.

use anyhow::{Result, bail};
use flannel_lab::Backend;
use flannel_lab::demo::{self, DemoOptions};

/// What the demo shows.
#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch on the command line")]
pub struct Options {
    /// Which backend: vxlan, host-gw, alloc, ipip, wireguard, udp, aws-vpc, gce, ali-vpc, tencent-vpc or hetzner
    #[arg(long, default_value_t = Backend::Vxlan)]
    backend: Backend,
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=50))]
    nodes: u32,
    /// Swap the plugin while packets flow, too
    #[arg(long)]
    swap: bool,
    /// Change the backend of the cluster to this one while packets flow
    #[arg(long, value_name = "BACKEND")]
    change: Option<Backend>,
    /// Keep the leases in a real etcd instead of a directory
    #[arg(long)]
    etcd: bool,
    /// On real nodes of Kubernetes, of which each runs a kubelet and containerd, with the manifest of deploy/kubernetes/
    #[arg(long, conflicts_with_all = ["backend", "swap", "change", "etcd", "ipv6", "keep"])]
    kubernetes: bool,
    /// IPv6 beside IPv4
    #[arg(long)]
    ipv6: bool,
    /// Leave everything running at the end, and print how to look inside
    #[arg(long)]
    keep: bool,
    /// Print one JSON object with every step and figure; progress goes to standard error
    #[arg(long)]
    json: bool,
}

/// Shows. Fails unless every step held.
pub fn run(options: &Options) -> Result<()> {
    let outcome = demo::run(&DemoOptions {
        nodes: usize::try_from(options.nodes)?,
        backend: options.backend,
        etcd: options.etcd,
        kubernetes: options.kubernetes,
        swap: options.swap,
        change: options.change,
        ipv6: options.ipv6,
        keep: options.keep,
        json: options.json,
        plugin: None,
        binary: None,
    })?;
    if !outcome.ok {
        bail!("not every step held");
    }
    Ok(())
}
