//! A network namespace without a name: whoever holds the descriptor holds the namespace, and nobody else can.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::privileges;

/// A network namespace. It ends when this value, its clones, and the processes and sockets in it are gone.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
    descriptor: Arc<OwnedFd>,
}

impl Namespace {
    /// Makes a new one, with its loopback interface up. The name is for messages only.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let descriptor = std::thread::spawn(make)
            .join()
            .map_err(|_| anyhow::anyhow!("the thread that makes a network namespace panicked"))?
            .with_context(|| format!("cannot make a network namespace: {}", privileges::ADVICE))?;
        let namespace = Self { name, descriptor: Arc::new(descriptor) };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// One that somebody else has made, and that is to be found at a path.
    pub fn open(name: impl Into<String>, path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        Ok(Self { name: name.into(), descriptor: Arc::new(file.into()) })
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path to it that other processes can open, as long as this one lives: for `nsenter` and for `ip … netns PATH`.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.descriptor.as_raw_fd()).into()
    }

    /// The number by which the kernel knows it.
    pub fn inode(&self) -> Result<u64> {
        Ok(rustix::fs::fstat(&self.descriptor).context("cannot look at a network namespace")?.st_ino)
    }

    /// Does something inside, on a thread of its own. A socket opened there stays inside for ever.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let outcome = std::thread::scope(|scope| {
            scope
                .spawn(|| -> io::Result<T> {
                    enter(&self.descriptor)?;
                    Ok(work())
                })
                .join()
        });
        match outcome {
            Ok(answer) => {
                answer.with_context(|| format!("cannot enter the network namespace of {}", self.name))
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// A command that will run inside. For what is run again and again there is [`Namespace::run`]: what is started on a thread that is inside
    /// already needs nothing between fork and exec, and the kernel has not to copy this process's page tables for it, nor to copy each page that its
    /// threads write to afterwards. That is most of the time that a test of many commands takes.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let descriptor = Arc::clone(&self.descriptor);
        // SAFETY: between fork and exec only a system call is made; nothing is allocated and no lock is taken.
        unsafe { command.pre_exec(move || enter(&descriptor)) };
        command
    }

    /// Runs a program of iproute2 with arguments separated by blanks. Answers its output, without the last line end.
    pub fn tool(&self, program: &str, arguments: &str) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments.split_whitespace()).stdin(Stdio::null());
        let output = self
            .run(|| command.output())?
            .with_context(|| format!("cannot run {program} (iproute2 must be installed)"))?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            bail!("on {}: {program} {arguments}: {}", self.name, reason.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// `ip …`
    pub fn ip(&self, arguments: &str) -> Result<String> {
        self.tool("ip", arguments)
    }

    /// `bridge …`
    pub fn bridge(&self, arguments: &str) -> Result<String> {
        self.tool("bridge", arguments)
    }

    /// `ip -json …`, understood.
    pub fn ip_json(&self, arguments: &str) -> Result<serde_json::Value> {
        let text = self.ip(&format!("-json {arguments}"))?;
        // Where there is nothing to list, some versions print nothing at all.
        let text = if text.is_empty() { "[]" } else { &text };
        serde_json::from_str(text).with_context(|| format!("ip -json {arguments}: no JSON"))
    }

    /// Many `ip` commands at once, one a line; much faster than one process each. Stops at the first that fails.
    pub fn ip_batch<S: AsRef<str>>(&self, commands: impl IntoIterator<Item = S>) -> Result<()> {
        let lines: Vec<String> = commands.into_iter().map(|line| line.as_ref().to_owned()).collect();
        let mut command = Command::new("ip");
        command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child =
            self.run(|| command.spawn())?.context("cannot run ip (iproute2 must be installed)")?;
        if let Some(mut input) = child.stdin.take() {
            // Where ip ends early, its exit status and its message say more than a broken pipe.
            let _ = input.write_all((lines.join("\n") + "\n").as_bytes());
        }
        let output = child.wait_with_output().context("cannot wait for ip")?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            bail!("on {}: ip -batch: {}\n{}", self.name, reason.trim(), lines.join("\n"));
        }
        Ok(())
    }

    /// Sets sysctls under `/proc/sys/net`, as in `("ipv4/ip_forward", "1")`.
    pub fn sysctls(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (key, value) in settings {
                std::fs::write(format!("/proc/sys/net/{key}"), value)
                    .with_context(|| format!("on {}: cannot set sysctl net/{key} to {value}", self.name))?;
            }
            Ok(())
        })?
    }
}

/// Makes a namespace for the calling thread, which is not to be used for anything else.
fn make() -> io::Result<OwnedFd> {
    // SAFETY: only the network namespace changes, and only this thread's; no memory or descriptor table is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

fn enter(descriptor: &OwnedFd) -> io::Result<()> {
    Ok(move_into_link_name_space(descriptor.as_fd(), Some(LinkNameSpaceType::Network))?)
}
