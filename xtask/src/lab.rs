//! What the lab shows and measures: everything that it needs is built and found, and the lab's own program does the rest.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cargo::{cargo, target};
use crate::{build, clouds, setup};

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

/// `cargo xtask demo`.
pub fn demo(arguments: &Arguments) -> Result<ExitCode> {
    run("demo", arguments, arguments.mention("etcd"))
}

/// `cargo xtask bench`.
pub fn bench(arguments: &Arguments) -> Result<ExitCode> {
    let help = arguments.ask_for_help();
    if arguments.mention("tunnel") && !help {
        setup::iperf3()?;
    }
    run("bench", arguments, arguments.mention("scale") || arguments.mention("reference"))
}

fn run(command: &str, arguments: &Arguments, etcd: bool) -> Result<ExitCode> {
    let mut lab = Command::new(target().join("debug/flannel-lab"));
    lab.arg(command).args(&arguments.arguments);
    crate::cargo::run(&mut cargo(&["build", "--quiet", "--package", "flannel-lab"]))?;
    if !arguments.ask_for_help() {
        build::all()?;
        if arguments.mention("aws-vpc") {
            clouds::install()?;
        }
        if etcd {
            lab.env("PATH", setup::path_with_etcd()?);
        }
    }
    let status = lab.status().context("cannot run the lab")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
