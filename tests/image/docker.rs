//! A Docker daemon of a test's own: in a network namespace without anything, so that it leaves this machine's network and firewall alone.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use flannel_test_support::skip;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a daemon may take to start, or to end.
const PATIENCE: Duration = Duration::from_secs(90);

/// What `cargo xtask` has made for the tests, by the variable that says where; without it the test is skipped, with the reason that is beside it.
pub fn needed(variable: &str) -> Result<Option<PathBuf>> {
    let Some(path) = std::env::var_os(variable).map(PathBuf::from) else {
        skip(format!("{variable} is not set: cargo xtask test makes what it names"));
        return Ok(None);
    };
    if let Ok(reason) = std::fs::read_to_string(path.with_extension("skipped")) {
        skip(reason);
        return Ok(None);
    }
    ensure!(path.exists(), "{variable}: {} is not there", path.display());
    Ok(Some(path))
}

/// A daemon, which ends with its containers and images when it is dropped.
pub struct Docker {
    daemon: Child,
    programs: PathBuf,
    place: TempDir,
}

impl Docker {
    /// Starts one; none, and a skip, where this machine has no place for it.
    pub fn start(programs: &Path) -> Result<Option<Self>> {
        let place = tempfile::Builder::new().prefix("flannel-docker").tempdir()?;
        let log = std::fs::File::create(place.path().join("log"))?;
        let at = |name: &str| place.path().join(name).display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--"])
            .arg(programs.join("dockerd"))
            .args(["--data-root", &at("data"), "--exec-root", &at("run"), "--pidfile", &at("pid")])
            .args(["--host", &format!("unix://{}", at("socket")), "--bridge=none", "--iptables=false"])
            .args(["--ip6tables=false", "--ip-forward=false"])
            .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", programs.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let daemon = command.spawn().context("unshare")?;
        let mut docker = Self { daemon, programs: programs.to_owned(), place };
        let begin = Instant::now();
        while docker.docker(&["version"]).is_err() {
            if docker.daemon.try_wait()?.is_some() {
                let log = std::fs::read_to_string(docker.place.path().join("log"))?;
                skip(format!("no Docker daemon here: {}", log.lines().last().unwrap_or("it says nothing")));
                return Ok(None);
            }
            ensure!(begin.elapsed() < PATIENCE, "the Docker daemon does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(Some(docker))
    }

    /// A directory on this machine for a container to write to.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let directory = self.place.path().join(name);
        std::fs::create_dir(&directory)?;
        Ok(directory)
    }

    /// Loads an archive, and says which image that is.
    pub fn load(&self, archive: &Path) -> Result<String> {
        let said = self.docker(&["load", "--input", &archive.display().to_string()])?;
        let image = said.lines().find_map(|line| line.strip_prefix("Loaded image: "));
        Ok(image.with_context(|| format!("no image in the archive: {said}"))?.to_owned())
    }

    /// What an image starts.
    pub fn entry_point(&self, image: &str) -> Result<String> {
        self.docker(&["image", "inspect", "--format", "{{.Config.Entrypoint}}", image])
    }

    /// Runs a command in a new container whose root file system is read-only, and gives what it prints.
    pub fn run(&self, image: &str, options: &[&str], command: &[&str]) -> Result<String> {
        let (program, arguments) = command.split_first().context("no program")?;
        let fixed = ["run", "--rm", "--read-only", "--network=none", "--entrypoint", program];
        self.docker(&[&fixed[..], options, &[image], arguments].concat())
    }

    fn docker(&self, arguments: &[&str]) -> Result<String> {
        let socket = format!("unix://{}", self.place.path().join("socket").display());
        let output = Command::new(self.programs.join("docker"))
            .args(["--host", &socket])
            .args(arguments)
            .env("HOME", self.place.path())
            .output()?;
        if !output.status.success() {
            bail!("docker {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Drop for Docker {
    /// In order, so that nothing stays mounted.
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.daemon.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE && matches!(self.daemon.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
