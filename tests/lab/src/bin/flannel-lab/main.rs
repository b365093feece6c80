//! What the lab shows and measures. `cargo xtask demo` and `cargo xtask bench` build what it takes, and call this.

mod bench;
mod demo;

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
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Bench(bench) => bench::run(&bench),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
