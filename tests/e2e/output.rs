//! What becomes of what is printed and logged where nobody takes it: readers that have gone, disks that are full, descriptors that are
//! closed.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use flannel_lab::artifacts;
use flannel_lab::cluster::IPV4;
use flannel_lab::{Cluster, ClusterOptions, DaemonOptions, Lab, Store, Underlay, http, wait};

const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8471);

/// Commands that print without a daemon.
const COMMANDS: [&[&str]; 6] = [
    &["--help"],
    &["--version"],
    &["man"],
    &["completions", "bash"],
    &["plugin", "inspect"],
    &["plugin", "check", "--json", "--quick", "--type", "host-gw"],
];

/// How a shell's line ends in which `"$@"` is a command of ours, and what is said on its standard error.
fn shell(line: &str, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line, "sh"]).arg(artifacts::flanneld()?).args(arguments);
    let output = command.env_clear().stdin(Stdio::null()).output().context("cannot run a shell")?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[test]
fn a_command_whose_reader_has_gone_ends_like_any_other_program() -> Result<()> {
    for arguments in COMMANDS {
        let mut command = Command::new(artifacts::flanneld()?);
        has_no_reader(command.args(arguments).env_clear())?;
    }
    Ok(())
}

/// It ends as those that `SIGPIPE` ends, and says nothing.
fn has_no_reader(command: &mut Command) -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let output = command.stdin(Stdio::null()).stdout(writer).output()?;
    assert_eq!(output.status.code(), Some(141), "{command:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command:?}");
    Ok(())
}

#[test]
fn a_command_that_cannot_print_says_so_and_fails() -> Result<()> {
    for arguments in COMMANDS {
        let (code, said) = shell(r#"exec "$@" >/dev/full"#, arguments)?;
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        let expected = "flanneld: cannot write to the standard output: No space left on device";
        assert!(said.starts_with(expected) && said.lines().count() == 1, "{arguments:?}: {said}");
    }
    Ok(())
}

#[test]
fn a_command_without_its_outputs_ends_with_a_status_of_its_own() -> Result<()> {
    for arguments in COMMANDS {
        for closed in [">&-", ">&- 2>&-", "2>/dev/full >/dev/null"] {
            let (code, said) = shell(&format!(r#"exec "$@" {closed}"#), arguments)?;
            assert_eq!((code, said.as_str()), (Some(0), ""), "{arguments:?} {closed}");
        }
    }
    for closed in ["2>&-", "2>/dev/full", ">&- 2>&-"] {
        for (arguments, expected) in [(&["--nope"][..], 2), (&["docker-opts", "-f", "/nowhere"], 1)] {
            let (code, _) = shell(&format!(r#"exec "$@" {closed}"#), arguments)?;
            assert_eq!(code, Some(expected), "{arguments:?} {closed}");
        }
    }
    Ok(())
}

#[test]
fn a_status_whose_reader_has_gone_ends_quietly() -> Result<()> {
    let cluster = Cluster::start(&ClusterOptions { nodes: 1, ..ClusterOptions::default() })?;
    let node = cluster.node(0);
    for arguments in [&[][..], &["--json"]] {
        let mut command = cluster.options().command(node);
        command.env_remove("FLANNELD_CONTROL_SOCKET").arg("status").args(arguments);
        command.arg("--control-socket").arg(node.control_socket());
        has_no_reader(&mut command)?;
    }
    Ok(())
}

/// A daemon whose log goes to `log`, in a cluster without a config, so that it has something to complain about; and what surrounds it.
fn with_log(log: impl Into<Stdio>) -> Result<(Lab, Store, Child)> {
    let lab = Lab::new(1, Underlay::default())?;
    let store = Store::file(&lab)?;
    let (node, directory) = (lab.node(0), lab.node(0).directory());
    let mut command = DaemonOptions::new(&store, None, None)?.built_in().command(node);
    command.args(store.flags()).arg("--healthz-port=8471").arg("--log-level=debug");
    command.arg("--subnet-file").arg(node.subnet_file());
    command.arg("--state-dir").arg(directory.join("state"));
    command.arg("--cache-dir").arg(directory.join("cache"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let child = command.spawn().context("cannot start flanneld")?;
    Ok((lab, store, child))
}

/// It comes up all the same, and counts what is lost.
fn serves_without_a_log(log: impl Into<Stdio>, gone: impl FnOnce()) -> Result<()> {
    let (lab, store, mut child) = with_log(log)?;
    gone();
    let outcome = wait::until_true("it answers, and counts lost lines", || {
        store.put_config(IPV4)?;
        ensure!(child.try_wait()?.is_none(), "flanneld has ended");
        let Ok(answer) = http::get(lab.node(0).namespace(), HEALTH, "/metrics") else { return Ok(false) };
        let lost = answer.body.lines().find_map(|line| line.strip_prefix("flanneld_log_lines_lost_total "));
        let ready = answer.body.lines().any(|line| line == "flanneld_ready 1");
        Ok(ready && lost.is_some_and(|lost| lost != "0"))
    });
    child.kill()?;
    child.wait()?;
    outcome.map(|_| ())
}

#[test]
fn a_log_on_a_full_disk_ends_no_daemon() -> Result<()> {
    serves_without_a_log(File::options().write(true).open("/dev/full")?, || {})
}

#[test]
fn a_log_whose_reader_goes_ends_no_daemon() -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    serves_without_a_log(writer, move || drop(reader))
}

#[test]
fn a_log_whose_reader_does_not_read_holds_no_daemon_up() -> Result<()> {
    let (reader, mut writer) = std::io::pipe()?;
    // Full from the start.
    let flags = rustix::fs::fcntl_getfl(&writer)?;
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK)?;
    while writer.write(&[b'x'; 512]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags)?;
    serves_without_a_log(writer, || {})?;
    drop(reader);
    Ok(())
}
