//! The soak's command line.

use anyhow::Result;
use flannel_lab::Backend;
use flannel_lab::soak::{self, SoakOptions, StoreKind};

/// What the soak goes through. What is not given, the seed chooses.
#[derive(clap::Args)]
pub struct Options {
    /// How long faults are made, in minutes
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// The seed of a run before, to have the same faults again
    #[arg(long)]
    seed: Option<u64>,
    /// How many nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(3..=50))]
    nodes: u32,
    /// Where the leases are: file or etcd
    #[arg(long)]
    store: Option<StoreKind>,
    /// Which backend: vxlan, host-gw, ipip, wireguard or udp
    #[arg(long)]
    backend: Option<Backend>,
    /// Change the backend between vxlan, host-gw and udp, in the midst of faults: no packet is lost that a fault does not explain
    #[arg(long)]
    change: bool,
    /// IPv6 beside IPv4, or not
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ipv6: Option<bool>,
    /// Only faults with one of these words in their names, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "WORDS")]
    only: Vec<String>,
}

/// Goes through it. Fails unless everything held.
pub fn run(options: &Options) -> Result<()> {
    soak::run(&SoakOptions {
        minutes: options.minutes,
        seed: options.seed,
        nodes: usize::try_from(options.nodes)?,
        store: options.store,
        backend: options.backend,
        change: options.change,
        ipv6: options.ipv6,
        only: options.only.clone(),
    })
}
