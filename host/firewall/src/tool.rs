//! Running the firewall's programs.

use std::fs::File;
use std::io::{ErrorKind, Seek, Write};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use tokio::process::Command;
use tokio::time::timeout;

use super::error::FirewallError;
use flannel_base::Family;
use flannel_privileges::search_path;

/// How long a program may take. On a host with many services others hold the xtables lock for seconds.
const PROGRAM_TIMEOUT: Duration = Duration::from_mins(1);

/// What of the environment the programs get. Nothing that says which code they run or where their modules are (`LD_PRELOAD`,
/// `XTABLES_LIBDIR`, `MODPROBE_OPTIONS`), and none of the daemon's passwords; but the lock has to be the one that others take here.
const PASSED_ON: [&str; 1] = ["XTABLES_LOCKFILE"];

/// Which programs are used, and where they are found.
#[derive(Clone, Debug, Default)]
pub(super) struct Tools {
    /// Between the `iptables` and the `-restore` of a name: empty for the system's choice, `-nft` or `-legacy`.
    pub variant: &'static str,
    /// Where to look; else in the absolute directories of `PATH` and, because not everybody's has them, in the usual places for such
    /// programs.
    pub path: Option<String>,
}

impl Tools {
    /// The name of one of the iptables programs; `part` is empty, `-save` or `-restore`.
    pub(crate) fn iptables(&self, family: Family, part: &str) -> String {
        let start = match family {
            Family::Ipv4 => "iptables",
            Family::Ipv6 => "ip6tables",
        };
        format!("{start}{}{part}", self.variant)
    }

    /// Runs a program to its end, and returns what it printed.
    pub(crate) async fn run(
        &self,
        program: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, FirewallError> {
        let start = |error: std::io::Error| FirewallError::Start {
            program: program.to_owned(),
            reason: error.to_string(),
        };
        let path = self.path.clone().unwrap_or_else(|| search_path(std::env::var("PATH").ok().as_deref()));
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| PASSED_ON.iter().any(|passed| name == passed)))
            .env("PATH", path)
            .env("LC_ALL", "C")
            .stdin(as_stdin(input).map_err(start)?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => missing(program),
                _ => start(error),
            })?;
        let command = || format!("{program} {}", arguments.join(" ")).trim_end().to_owned();
        let output = timeout(PROGRAM_TIMEOUT, child.wait_with_output())
            .await
            .map_err(|_| FirewallError::Stuck { command: command(), seconds: PROGRAM_TIMEOUT.as_secs() })?
            .map_err(start)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(FirewallError::refused(command(), &said, &output.status.to_string()));
        }
        String::from_utf8(output.stdout)
            .map_err(|error| FirewallError::Output { command: command(), reason: error.to_string() })
    }
}

/// A file rather than a pipe: nobody has to write while the program runs.
fn as_stdin(input: &str) -> std::io::Result<Stdio> {
    if input.is_empty() {
        return Ok(Stdio::null());
    }
    let mut file = File::from(memfd_create("flannel-rules", MemfdFlags::CLOEXEC)?);
    file.write_all(input.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

fn missing(program: &str) -> FirewallError {
    let (package, instead) = if program.starts_with("nft") {
        ("nftables", "leave out \"EnableNFTables\" in the network config")
    } else {
        ("iptables", "set \"EnableNFTables\": true in the network config")
    };
    FirewallError::Missing { program: program.to_owned(), package, instead }
}
