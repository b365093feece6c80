//! One binary, several programs: what it is called decides. So an image needs nothing but flanneld, and links to it under the names that
//! manifests for flannel's image call.
//!
//! | name | what it does |
//! |---|---|
//! | `flannel` | the CNI plugin, if a container runtime starts it; else it is flanneld |
//! | `cp` | copies files, as far as manifests do |
//! | `install-conf` | copies one file |
//! | `mk-docker-opts.sh` | `flanneld docker-opts` |
//!
//! None of them comes near anything that takes time to start.

#![warn(unreachable_pub)]

mod copy;
mod cp;
mod install_conf;

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Runs the program that the first argument names, and answers its status; nothing if that is the daemon.
pub fn run(arguments: &[OsString]) -> Option<ExitCode> {
    let (program, arguments) = arguments.split_first()?;
    let outcome = match name(program)? {
        "flannel" if std::env::var_os(flannel_cni::COMMAND).is_some() => {
            return Some(flannel_cni::run_process());
        }
        "cp" => cp::run(arguments).map_err(|error| complain("cp", error)),
        "install-conf" => install_conf::run(arguments).map_err(|error| complain("install-conf", error)),
        _ => return None,
    };
    Some(outcome.map_or_else(|failure| failure, |()| ExitCode::SUCCESS))
}

/// The command line as the daemon's own: that of a program that is one of its commands becomes that command.
pub fn as_command(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.first().and_then(|program| name(program)) == Some("mk-docker-opts.sh") {
        arguments.insert(1, "docker-opts".into());
    }
    arguments
}

/// What a program is called.
fn name(program: &OsStr) -> Option<&str> {
    Path::new(program).file_name()?.to_str()
}

/// Where nobody can be told, the status says so.
fn complain(program: &str, error: impl Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{program}: {error}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(arguments: &[&str]) -> Vec<OsString> {
        arguments.iter().map(OsString::from).collect()
    }

    #[test]
    fn under_its_own_name_and_under_unknown_ones_it_is_the_daemon() {
        for arguments in
            [&["/opt/bin/flanneld", "--ip-masq"][..], &["flannel"], &["/flannel", "cp"], &["copy"], &[]]
        {
            assert!(run(&all(arguments)).is_none(), "{arguments:?}");
            assert_eq!(as_command(all(arguments)), all(arguments));
        }
    }

    #[test]
    fn the_name_counts_wherever_the_program_is() {
        for program in ["cp", "/bin/cp", "./cp", "/opt/bin/install-conf"] {
            assert_eq!(run(&all(&[program])), Some(ExitCode::FAILURE), "{program}: there is nothing to copy");
        }
    }

    #[test]
    fn the_script_for_docker_is_a_command_with_the_same_arguments() {
        assert_eq!(
            as_command(all(&["/opt/bin/mk-docker-opts.sh", "-i", "-d", "/run/x"])),
            all(&["/opt/bin/mk-docker-opts.sh", "docker-opts", "-i", "-d", "/run/x"])
        );
    }
}
