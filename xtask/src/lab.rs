//! What the lab shows, measures, and goes through: everything that it needs is built and found, and the lab's own program does the rest.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{cargo, target};
use crate::plugins::Wanted;
use crate::{build, clouds, control_plane, kubernetes_node, languages, setup};

/// Arguments for the lab, whose own help tells of them.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// As `--help` shows them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Arguments {
    fn mention(&self, word: &str) -> bool {
        self.arguments.iter().any(|argument| argument.to_string_lossy().contains(word))
    }

    fn ask_for_help(&self) -> bool {
        self.arguments.iter().any(|argument| ["-h", "--help", "help"].iter().any(|help| argument == help))
    }
}

/// `cargo xtask demo`. Comes back only if that fails.
pub fn demo(arguments: &Arguments) -> Result<()> {
    run("demo", arguments, arguments.mention("etcd"))
}

/// `cargo xtask bench`. Comes back only if that fails, unless it is no matter of the lab's.
pub fn bench(arguments: &Arguments) -> Result<()> {
    if arguments.arguments.first().is_some_and(|first| first == "languages") {
        return languages::bench(&arguments.arguments);
    }
    let help = arguments.ask_for_help();
    if arguments.mention("tunnel") && !help {
        setup::iperf3()?;
    }
    if arguments.mention("kubernetes") && !help {
        control_plane::install()?;
    }
    run("bench", arguments, arguments.mention("scale") || arguments.mention("reference"))
}

/// `cargo xtask soak`. Comes back only if that fails.
pub fn soak(arguments: &Arguments) -> Result<()> {
    // Which store it is, the seed decides.
    run("soak", arguments, true)
}

fn run(command: &str, arguments: &Arguments, etcd: bool) -> Result<()> {
    let mut lab = Command::new(target().join("release/flannel-lab"));
    lab.arg(command).args(&arguments.arguments);
    crate::cargo::run(&mut cargo(&["build", "--quiet", "--release", "--package", "flannel-lab"]))?;
    if !arguments.ask_for_help() {
        // Swaps are to a component of the tests.
        build::with(if arguments.mention("swap") || command == "soak" {
            Wanted::All
        } else {
            Wanted::Plugins
        })?;
        // The bench's nodes are objects at the API server and nothing else.
        if arguments.mention("kubernetes") && command != "bench" {
            kubernetes_node::need()?;
        }
        if arguments.mention("aws-vpc") {
            clouds::install()?;
        }
        if command == "soak" {
            setup::firewalls()?;
        }
        if etcd {
            lab.env("PATH", setup::path_with_etcd()?);
        }
    }
    // In our place, so that whoever presses Ctrl-C waits until the lab has cleaned up.
    Err(lab.exec()).context("cannot run the lab")
}
