//! Runs a command by the node's shell. It is ended when its time is over, with all that it has started; what it leaves in the background when
//! it ends by itself goes on, and is not waited for, also where it holds on to standard output.

use std::io::{ErrorKind, PipeReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use flannel_plugin_host::{Command, CommandFailure, CommandOutcome};
use flannel_privileges::search_path;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, ChildStdin};
use tokio::time::sleep_until;

/// Bytes of output that are kept, and of what is shown of it in an error.
const OUTPUT: usize = 64 << 10;
const SHOWN: usize = 300;
/// Bytes that are read after the end: as many as are in a pipe.
const LEFT_OVER: usize = 64 << 10;
/// Variables that are for this process alone: systemd's, which speak of it, and its password for etcd.
const OWN: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "FLANNELD_ETCD_PASSWORD",
];

/// Runs a command until it ends, or its time does.
pub(super) async fn run(command: &Command, deadline: Instant) -> Result<CommandOutcome, CommandFailure> {
    let allowed = deadline.saturating_duration_since(Instant::now());
    let started =
        start(command).map_err(|error| CommandFailure::Unavailable(not_started(command, &error)))?;
    let Started { mut child, input, output: reader } = started;
    let group = Group(child.id());
    let mut output = Output::default();
    let status = {
        let mut wait = pin!(child.wait());
        let mut feed = pin!(feed(input, command.input.as_bytes()));
        let (mut is_fed, mut ended) = (false, false);
        loop {
            tokio::select! {
                status = &mut wait => break Some(status),
                () = &mut feed, if !is_fed => is_fed = true,
                more = output.read(&reader), if !ended => ended = !more,
                () = sleep_until(deadline.into()) => break None,
            }
        }
    };
    let Some(status) = status else {
        drop(group);
        // It does not outlive that.
        let _ = child.wait().await;
        return Err(CommandFailure::Unavailable(too_long(command, allowed, &output)));
    };
    group.leave();
    let status = status.map_err(|error| CommandFailure::Unavailable(not_started(command, &error)))?;
    output.rest(&reader);
    Ok(CommandOutcome {
        status: code(status),
        output: String::from_utf8_lossy(&output.kept).into_owned(),
        truncated: output.more,
    })
}

/// A command that runs.
struct Started {
    child: Child,
    input: Option<ChildStdin>,
    /// Of both: its standard output and its standard error.
    output: Receiver,
}

fn start(command: &Command) -> std::io::Result<Started> {
    let (reader, writer) = std::io::pipe()?;
    let mut shell = tokio::process::Command::new("sh");
    shell.arg("-c").arg(&command.text).current_dir("/");
    for name in OWN {
        shell.env_remove(name);
    }
    shell.envs(command.environment.iter().map(|(name, value)| (name, value)));
    shell.env("PATH", search_path(std::env::var("PATH").ok().as_deref()));
    shell.stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = shell.process_group(0).kill_on_drop(true).spawn()?;
    let input = child.stdin.take();
    Ok(Started { child, input, output: receiver(reader)? })
}

fn receiver(reader: PipeReader) -> std::io::Result<Receiver> {
    Receiver::from_owned_fd(OwnedFd::from(reader))
}

/// Hands the input over, as far as it is wanted.
async fn feed(input: Option<ChildStdin>, bytes: &[u8]) {
    if let Some(mut input) = input {
        let _ = input.write_all(bytes).await;
    }
}

/// What a command has written.
#[derive(Default)]
struct Output {
    kept: Vec<u8>,
    /// There was more.
    more: bool,
}

impl Output {
    /// Reads some more; false: there will not be any.
    async fn read(&mut self, reader: &Receiver) -> bool {
        reader.readable().await.is_ok() && self.take(reader).is_none_or(|bytes| bytes > 0)
    }

    /// Reads what is there when the command has ended. Others may go on writing.
    fn rest(&mut self, reader: &Receiver) {
        let mut read = 0;
        while read < LEFT_OVER
            && let Some(bytes @ 1..) = self.take(reader)
        {
            read += bytes;
        }
    }

    /// Takes bytes that are there; none: there are none yet.
    fn take(&mut self, reader: &Receiver) -> Option<usize> {
        let mut bytes = [0; 8192];
        match reader.try_read(&mut bytes) {
            Ok(count) => {
                let room = OUTPUT - self.kept.len();
                self.kept.extend(bytes.iter().take(count.min(room)));
                self.more |= count > room;
                Some(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(_) => Some(0),
        }
    }
}

/// A command with all that it has started, as long as they have not left its process group.
struct Group(Option<u32>);

impl Group {
    /// It has ended by itself.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    /// Ends it. Before the first process is waited for, so that the number is nobody else's.
    fn drop(&mut self) {
        let pid = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// As shells have it.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

fn not_started(command: &Command, error: &std::io::Error) -> String {
    let name = &command.name;
    if error.kind() == ErrorKind::NotFound {
        return format!(
            "{name} cannot be run: there is no sh here; commands need a shell, which flanneld's own image does not have"
        );
    }
    format!("{name} cannot be run: {error}")
}

fn too_long(command: &Command, allowed: Duration, output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.kept);
    let said: String = said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect();
    let said = if said.is_empty() { "nothing".to_owned() } else { said };
    let (name, seconds) = (&command.name, allowed.as_secs_f32().round());
    format!(
        "{name} has not ended within {seconds} s and was killed, with all that it had started; it said: {said}"
    )
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
