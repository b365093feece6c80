//! The real daemon, running on a node.

use std::ffi::{CStr, CString, OsString};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, mkdir};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::clock::Clock;
use crate::fake_systemd::ServiceManager;
use crate::log::{Log, LogLine};
use crate::store::{Store, etcd_flags};
use crate::{Node, artifacts, child_reaper, wait};

/// Where the daemon keeps its files unless it is told otherwise: a machine's own ones must be out of its reach.
const USUAL_PLACES: [&str; 3] = ["/run/flannel", "/var/lib/flanneld", "/var/cache/flanneld"];

/// Variables of this process that daemons of the lab do not see: ours, Kubernetes', and those with which clouds' tools are set up.
const FOREIGN: [&str; 14] = [
    "FLANNELD_",
    "KUBERNETES_",
    "NODE_NAME",
    "POD_NAME",
    "EVENT_QUEUE_DEPTH",
    "WIREGUARD_",
    "AWS_",
    "GOOGLE_",
    "GCE_",
    "CLOUDSDK_",
    "ALIBABA_CLOUD_",
    "ACCESS_KEY_",
    "ECS_",
    "TENCENTCLOUD_",
];

/// But these they see: what a test program is told by them is meant for the daemons, too.
const FOR_TESTS: &str = "FLANNELD_TEST_";

/// The variable with a directory for compiled plugins that all daemons use, so that each is compiled once: for slow machines.
const SHARED_CACHE: &str = "FLANNELD_TEST_CACHE";

/// How to start a daemon.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    binary: PathBuf,
    plugin: Option<PathBuf>,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    cache: Option<PathBuf>,
    clock: Option<Clock>,
    manager: Option<ServiceManager>,
    upstreams_place: bool,
    /// It is told what its node is called in Kubernetes.
    in_kubernetes: bool,
    service_account: Option<PathBuf>,
    beside: Option<String>,
}

impl DaemonOptions {
    /// With leases in a store. Binary and plugin: the daemon and the vxlan plugin that were built, unless others are given.
    pub fn new(store: &Store, binary: Option<PathBuf>, plugin: Option<PathBuf>) -> Result<Self> {
        let in_kubernetes = matches!(store, Store::Kube(_));
        Ok(Self { in_kubernetes, ..Self::with_flags(store.flags(), binary, plugin)? })
    }

    /// With leases in an etcd that may not be there.
    pub fn with_etcd_at(endpoint: &str) -> Result<Self> {
        Self::with_flags(etcd_flags(endpoint), None, None)
    }

    /// With leases in the nodes of an API server that is not the lab's, which is asked in the clear.
    pub fn with_api_server_at(url: &str, network_config: &Path) -> Result<Self> {
        let flags = vec![
            "--kube-subnet-mgr".to_owned(),
            format!("--kube-api-url={url}"),
            format!("--net-config-path={}", network_config.display()),
        ];
        Ok(Self { in_kubernetes: true, ..Self::with_flags(flags, None, None)? })
    }

    fn with_flags(flags: Vec<String>, binary: Option<PathBuf>, plugin: Option<PathBuf>) -> Result<Self> {
        Ok(Self {
            binary: binary.map_or_else(artifacts::flanneld, Ok)?,
            plugin: Some(plugin.map_or_else(|| artifacts::plugin("vxlan"), Ok)?),
            arguments: flags.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            cache: std::env::var_os(SHARED_CACHE).map(PathBuf::from),
            clock: None,
            manager: None,
            upstreams_place: false,
            in_kubernetes: false,
            service_account: None,
            beside: None,
        })
    }

    /// The plugin from another file.
    #[must_use]
    pub fn plugin(self, file: PathBuf) -> Self {
        Self { plugin: Some(file), ..self }
    }

    /// The daemon from another file.
    #[must_use]
    pub fn binary(self, file: PathBuf) -> Self {
        Self { binary: file, ..self }
    }

    /// The built-in plugin that the network config asks for.
    #[must_use]
    pub fn built_in(self) -> Self {
        Self { plugin: None, ..self }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// One more variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The program on a node, without arguments yet. Of the environment's `FLANNELD_` variables it sees only where the node's
    /// control socket is.
    pub fn command(&self, node: &Node) -> Command {
        let mut command = if self.manager.is_some() {
            let mut shell = node.namespace().command("/bin/sh");
            shell.args(["-c", ServiceManager::SHELL]).arg(&self.binary);
            shell
        } else {
            node.namespace().command(&self.binary)
        };
        for (name, _) in std::env::vars_os() {
            let starts_with = |prefix: &str| name.as_bytes().starts_with(prefix.as_bytes());
            if FOREIGN.iter().any(|prefix| starts_with(prefix)) && !starts_with(FOR_TESTS) {
                command.env_remove(name);
            }
        }
        if self.in_kubernetes {
            command.env("NODE_NAME", node.name());
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("FLANNELD_CONTROL_SOCKET", self.directory(node).join("run/flanneld.sock"));
        command
    }

    /// Beside a node's usual daemon: with files of its own, in a directory of this name.
    #[must_use]
    pub fn beside(self, name: &str) -> Self {
        Self { beside: Some(name.to_owned()), ..self }
    }

    /// Where its files on a node are.
    pub fn directory(&self, node: &Node) -> PathBuf {
        let usual = node.directory();
        self.beside.as_ref().map_or_else(|| usual.to_owned(), |name| usual.join(name))
    }

    /// Under a service manager.
    #[must_use]
    pub fn manager(self, manager: &ServiceManager) -> Self {
        Self { manager: Some(manager.clone()), ..self }
    }

    /// With a directory for compiled plugins that others use, too; otherwise each node has its own.
    #[must_use]
    pub fn cache(self, directory: &Path) -> Self {
        Self { cache: Some(directory.to_owned()), ..self }
    }

    /// With a wall clock of its own.
    #[must_use]
    pub fn clock(self, clock: &Clock) -> Self {
        Self { clock: Some(clock.clone()), ..self }
    }

    /// With the directory that upstream uses, `/run/flannel`, wherever this machine has none: it is the node's own `run`.
    #[must_use]
    pub fn upstreams_place(self) -> Self {
        Self { upstreams_place: true, ..self }
    }

    /// With upstream's directory, and with a service account's credentials from a directory where pods have them.
    #[must_use]
    pub fn service_account(self, directory: &Path) -> Self {
        Self { service_account: Some(directory.to_owned()), ..self.upstreams_place() }
    }
}

/// How a daemon came up.
#[derive(Clone, Debug)]
pub struct Ready {
    /// How long it took from the start of the process.
    pub after: Duration,
    /// The line in the log.
    pub line: LogLine,
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident now.
    pub resident: u64,
    /// The most that was ever resident.
    pub peak: u64,
}

/// A daemon that was started. It is killed when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    node: String,
    subnet_file: PathBuf,
    log: Log,
    started: Instant,
    child: Child,
}

/// Has a daemon with this state directory know what others have compiled as its own.
pub fn share_cache_key(state: &Path) -> Result<()> {
    let file = state.join("cache-key");
    if !file.exists() {
        std::fs::write(&file, [7; 32]).with_context(|| file.display().to_string())?;
        std::fs::set_permissions(&file, Permissions::from_mode(0o600))?;
    }
    Ok(())
}

impl Daemon {
    pub(crate) fn start(node: &Node, options: &DaemonOptions) -> Result<Self> {
        let directory = options.directory(node);
        let [run, state, cache] = ["run", "state", "cache"].map(|name| directory.join(name));
        let (cache, is_shared) = options.cache.clone().map_or((cache, false), |shared| (shared, true));
        for place in [&run, &state, &cache] {
            std::fs::create_dir_all(place).with_context(|| place.display().to_string())?;
        }
        if is_shared {
            share_cache_key(&state)?;
        }
        let log_file = directory.join("flanneld.log");
        let log = Log::from_now(&log_file);
        let output = File::options().create(true).append(true).open(&log_file);
        let output = output.with_context(|| log_file.display().to_string())?;

        let mut command = options.command(node);
        if let Some(file) = &options.plugin {
            command.arg("--plugin").arg(file);
        }
        let subnet_file = run.join("subnet.env");
        command.arg("--subnet-file").arg(&subnet_file);
        command.arg("--state-dir").arg(&state).arg("--cache-dir").arg(&cache);
        command.args(["--log-format", "json"]).args(&options.arguments);
        // What it leaves behind goes with the lab.
        command.current_dir(&directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let usual = USUAL_PLACES.map(Path::new).into_iter();
        let mut covers: Vec<_> = usual.zip([run.as_path(), &state, &cache]).collect();
        let shared_memory = directory.join("shm");
        if let Some(clock) = &options.clock {
            std::fs::create_dir_all(&shared_memory).with_context(|| shared_memory.display().to_string())?;
            covers.push((Path::new("/dev/shm"), &shared_memory));
            command.envs(clock.environment());
        }
        let place = options.upstreams_place.then_some(run.as_path());
        give_own_mounts(&mut command, &covers, place, options.service_account.as_deref())?;
        if let Some(manager) = &options.manager {
            manager.equip(&mut command)?;
        }

        let started = Instant::now();
        let child = child_reaper::spawn(command)?;
        Ok(Self { node: node.name().to_owned(), subnet_file, log, started, child })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written since it started.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Waits until all that it has to do at start is done: the subnet file is there, and the peers are in the kernel.
    pub fn wait_ready(&mut self) -> Result<Ready> {
        let what = format!("{}: flanneld is ready", self.node);
        let (line, _) = wait::until(&what, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("{}: flanneld ended ({status}); it said last:\n{}", self.node, self.log.tail());
            }
            Ok(self.log.find("ready").filter(|_| self.subnet_file.is_file()))
        })
        .with_context(|| format!("{}: flanneld said last:\n{}", self.node, self.log.tail()))?;
        Ok(Ready { after: self.started.elapsed(), line })
    }

    /// Waits for a line in the log that fits.
    pub fn wait_log(&self, what: &str, fits: impl Fn(&LogLine) -> bool) -> Result<LogLine> {
        let found = wait::until(&format!("{}: a log line: {what}", self.node), || {
            Ok(self.log.lines().into_iter().find(&fits))
        });
        let (line, _) =
            found.with_context(|| format!("{}: flanneld said last:\n{}", self.node, self.log.tail()))?;
        Ok(line)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().context("cannot ask for a child")?.is_none())
    }

    /// SIGHUP: it is to look at everything again.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::HUP)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).with_context(|| format!("cannot send {signal:?}"))
    }

    /// `kill -9`
    pub fn kill9(mut self) {
        child_reaper::end(&mut self.child);
    }

    /// Asks it to end, and waits until it has. Answers how it ended.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait_exit()
    }

    /// Waits until it ends by itself. Answers how it ended.
    pub fn wait_exit(&mut self) -> Result<ExitStatus> {
        let ended = wait::until(&format!("{}: flanneld ends", self.node), || Ok(self.child.try_wait()?));
        let (status, _) =
            ended.with_context(|| format!("{}: flanneld said last:\n{}", self.node, self.log.tail()))?;
        Ok(status)
    }

    /// What it needs.
    pub fn memory(&self) -> Result<Memory> {
        let file = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(&file).with_context(|| file.clone())?;
        let value = |key: &str| -> Result<u64> {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .with_context(|| format!("{file}: {key}"))?;
            line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{file}: {key}"))
        };
        Ok(Memory { resident: value("VmRSS:")?, peak: value("VmHWM:")? })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        child_reaper::end(&mut self.child);
    }
}

/// Gives the process a mount namespace of its own, from which nothing spreads. All places are named on the command line; where
/// this machine runs flannel itself, its files are covered besides, in case an option is not heeded. With a directory for upstream's
/// place, there is nothing else in `/run`.
fn give_own_mounts(
    command: &mut Command,
    covers: &[(&Path, &Path)],
    upstreams_place: Option<&Path>,
    service_account: Option<&Path>,
) -> Result<()> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let there = covers.iter().filter(|(usual, _)| usual.is_dir());
    let covers = there
        .map(|(usual, own)| Ok((text(own)?, text(usual)?)))
        .collect::<Result<Vec<(CString, CString)>>>()?;
    let upstreams_place = upstreams_place.map(text).transpose()?;
    let service_account = service_account.map(text).transpose()?;
    let setup = move || -> io::Result<()> {
        // SAFETY: the child has one thread, and shares neither memory nor descriptors with anybody.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        for (own, usual) in &covers {
            mount_bind(own.as_c_str(), usual.as_c_str())?;
        }
        if let Some(own) = &upstreams_place {
            mount(c"tmpfs", c"/run", c"tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None::<&CStr>)?;
            mkdir(c"/run/flannel", Mode::RWXU)?;
            mount_bind(own.as_c_str(), c"/run/flannel")?;
        }
        if let Some(own) = &service_account {
            // `/var/run` is `/run`.
            mkdir(c"/run/secrets", Mode::RWXU)?;
            mkdir(c"/run/secrets/kubernetes.io", Mode::RWXU)?;
            mkdir(c"/run/secrets/kubernetes.io/serviceaccount", Mode::RWXU)?;
            mount_bind(own.as_c_str(), c"/run/secrets/kubernetes.io/serviceaccount")?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made; the paths are C strings already, so nothing is allocated.
    unsafe { command.pre_exec(setup) };
    Ok(())
}
