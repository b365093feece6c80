//! `flanneld config …`: what a network config would do, and writing it.

mod backend;
mod in_force;
mod progress;
mod report;
mod secrets;
mod set;
mod written;

use std::path::Path;

use flannel_privileges::{Capabilities, FILES, give_up_all_but};
use flanneld::cli::{ConfigCommand, Options};
use flanneld::daemon::log;

use super::{output, wait_for};
use in_force::InForce;
use report::Report;
use written::Written;

/// The status of a command that was interrupted, as shells have it.
const INTERRUPTED: u8 = 130;

/// The end of a command with a status of its own, and what is to be said about it; in one line.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
pub(crate) struct End {
    /// The status to end with.
    pub status: u8,
    /// What is said.
    pub said: String,
}

/// Does what was asked for.
pub(crate) fn run(command: ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check { file, json, daemon } => {
            begin(&daemon.options, FILES);
            check(&file, json, &daemon.options)
        }
        ConfigCommand::Set { file, timeout, no_wait, daemon } => {
            // What belongs to somebody else stays theirs.
            begin(&daemon.options, FILES | Capabilities::CHOWN);
            let patience = (!no_wait).then(|| std::time::Duration::from_secs(timeout));
            set::set(&file, patience, &daemon.options)
        }
    }
}

/// Others' code is compiled and run here, by root perhaps. What cannot be given up changes nothing. Of what is logged only warnings count,
/// unless somebody wants more.
fn begin(options: &Options, kept: Capabilities) {
    let _ = give_up_all_but(kept);
    let mut options = options.clone();
    if options.v == 0 {
        options.log_level.get_or_insert_with(|| "warn".to_owned());
    }
    log::start(&options);
}

fn check(file: &Path, json: bool, options: &Options) -> anyhow::Result<()> {
    let written = Written::read(file)?;
    let report = wait_for(async {
        let in_force = InForce::find(options).await;
        Report::make(options, &written, &in_force).await
    })?;
    if json {
        output::line(serde_json::to_string(&report)?)?;
    } else {
        output::text(&report)?;
    }
    Ok(report.ends()?)
}
