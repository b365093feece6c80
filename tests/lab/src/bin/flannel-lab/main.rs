//! What the lab shows, measures, and goes through. `cargo xtask demo`, `cargo xtask bench` and `cargo xtask soak` build what it takes, and call
//! this.

mod bench;
mod demo;
mod soak;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A cluster of nodes in network namespaces.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A cluster of nodes in network namespaces: real daemons, real packets, and what happens when things break
    Demo(demo::Options),
    /// Measure
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Random faults of all kinds on a cluster with traffic, and whether it is as good as new afterwards
    Soak(soak::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Bench(bench) => bench::run(&bench),
        Command::Soak(options) => soak::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
