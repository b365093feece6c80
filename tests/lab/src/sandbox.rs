//! What a container runtime gives a program: a file system of its own in which little can be written, and a few capabilities.
//!
//! The root is read-only, more than runtimes make it unless they are told, and so are `/proc/sys` and `/sys`. `/run` is the container's own, as if
//! it were of the image's writable layer. The image has this machine's `/usr`, with the firewall's tools, and nothing else of it but for those
//! files of `/etc` that tools look at.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, mkdir, open, symlink};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use rustix::process::{chdir, pivot_root};
use rustix::thread::{
    CapabilitySet, UnshareFlags, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, unshare_unsafe,
};

use crate::Namespace;

/// Where programs are looked for: the image's own come first.
const PATH: &str = "/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";
/// The directories beside `/usr` that have programs and libraries; on most systems links into it.
const MERGED: [&str; 5] = ["bin", "sbin", "lib", "lib64", "lib32"];
/// What tools look at: which firewall tool is meant, names of protocols, who root is.
const SETTINGS: [&str; 6] = ["alternatives", "ld.so.cache", "ssl", "protocols", "passwd", "nsswitch.conf"];
/// The devices that every container has.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// One thing that is done before the program starts. All paths are this machine's.
#[derive(Debug)]
enum Step {
    Directory(CString),
    /// An empty file, as the place of a file that is mounted.
    File(CString),
    Link(CString, CString),
    Tmpfs(CString),
    Bind(CString, CString),
    ReadOnly(CString),
}

/// A container's file system and rights.
#[derive(Debug)]
pub struct Sandbox {
    root: PathBuf,
    made: BTreeSet<PathBuf>,
    steps: Vec<Step>,
    /// What it may do besides what everybody may; none: everything, as a privileged one.
    capabilities: Option<CapabilitySet>,
}

impl Sandbox {
    /// The file system of an image with the daemon and its other names, put together in a directory that has to be empty, and stays so for
    /// everybody else. It is privileged, or has these capabilities, by their names without `CAP_`.
    pub fn new(directory: &Path, flanneld: &Path, capabilities: Option<&[String]>) -> Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let capabilities = capabilities.map(named).transpose()?;
        let mut sandbox =
            Self { root: directory.to_owned(), made: BTreeSet::new(), steps: Vec::new(), capabilities };
        sandbox.steps.push(Step::Tmpfs(text(directory)?));
        sandbox.system()?;
        sandbox.devices()?;
        sandbox.bind(flanneld, "/opt/bin/flanneld", true)?;
        for name in ["opt/bin/cp", "opt/bin/install-conf", "opt/bin/mk-docker-opts.sh", "flannel"] {
            sandbox.link("/opt/bin/flanneld", name)?;
        }
        Ok(sandbox)
    }

    /// A volume: what is at a place of this machine, at another one of the container.
    pub fn mount(&mut self, from: &Path, at: &str) -> Result<()> {
        self.bind(from, at, false)
    }

    /// A volume that cannot be written to.
    pub fn mount_read_only(&mut self, from: &Path, at: &str) -> Result<()> {
        self.bind(from, at, true)
    }

    /// A program of the container in a network namespace, with these variables and no others but for the path.
    pub fn command(
        mut self,
        namespace: &Namespace,
        line: &[String],
        variables: &[(String, String)],
    ) -> Result<Command> {
        let (program, arguments) = line.split_first().context("no program")?;
        let mut command = namespace.command(program);
        command.args(arguments).env_clear().env("PATH", PATH);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let root = text(&self.root)?;
        self.steps.push(Step::ReadOnly(root.clone()));
        let (steps, capabilities) = (self.steps, self.capabilities);
        let enter = move || -> io::Result<()> {
            // SAFETY: the child has one thread, and shares neither memory nor descriptors with anybody.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
            mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            steps.iter().try_for_each(Step::take)?;
            chdir(root.as_c_str())?;
            // Over the old root, which is below it then, and goes.
            pivot_root(c".", c".")?;
            unmount(c".", UnmountFlags::DETACH)?;
            chdir(c"/")?;
            capabilities.map_or(Ok(()), keep)
        };
        // SAFETY: between fork and exec only system calls are made; the paths are C strings already, so nothing is allocated.
        unsafe { command.pre_exec(enter) };
        Ok(command)
    }

    /// This machine's programs, and the kernel's files.
    fn system(&mut self) -> Result<()> {
        self.bind(Path::new("/usr"), "/usr", true)?;
        for name in MERGED {
            let place = Path::new("/").join(name);
            match std::fs::read_link(&place) {
                Ok(target) => self.link(&target.display().to_string(), name)?,
                Err(_) if place.is_dir() => self.bind(&place, &format!("/{name}"), true)?,
                Err(_) => {}
            }
        }
        for place in SETTINGS.map(|name| Path::new("/etc").join(name)) {
            if place.exists() {
                self.bind(&place, &place.display().to_string(), true)?;
            }
        }
        self.directory("/tmp")?;
        self.directory("/run")?;
        self.steps.push(Step::Tmpfs(self.place("/run")?));
        self.directory("/var")?;
        self.link("../run", "var/run")?;
        self.bind(Path::new("/proc"), "/proc", false)?;
        if self.capabilities.is_none() {
            return self.bind(Path::new("/sys"), "/sys", false);
        }
        self.bind(Path::new("/proc/sys"), "/proc/sys", true)?;
        self.bind(Path::new("/sys"), "/sys", true)
    }

    fn devices(&mut self) -> Result<()> {
        if self.capabilities.is_none() {
            return self.bind(Path::new("/dev"), "/dev", false);
        }
        for device in DEVICES.map(|name| Path::new("/dev").join(name)) {
            self.bind(&device, &device.display().to_string(), false)?;
        }
        Ok(())
    }

    fn bind(&mut self, from: &Path, at: &str, read_only: bool) -> Result<()> {
        let is_directory = from.metadata().with_context(|| from.display().to_string())?.is_dir();
        let place = self.place(at)?;
        if is_directory {
            self.directory(at)?;
        } else {
            let parent = Path::new(at).parent().unwrap_or(Path::new("/"));
            self.directory(&parent.display().to_string())?;
            self.steps.push(Step::File(place.clone()));
        }
        self.steps.push(Step::Bind(text(from)?, place.clone()));
        if read_only {
            self.steps.push(Step::ReadOnly(place));
        }
        Ok(())
    }

    /// Makes a directory, and those above it.
    fn directory(&mut self, at: &str) -> Result<()> {
        let mut place = PathBuf::from("/");
        for component in Path::new(at).components().filter(|part| matches!(part, Component::Normal(_))) {
            place.push(component);
            if self.made.insert(place.clone()) {
                self.steps.push(Step::Directory(self.place(&place.display().to_string())?));
            }
        }
        Ok(())
    }

    fn link(&mut self, to: &str, at: &str) -> Result<()> {
        self.steps.push(Step::Link(CString::new(to)?, self.place(at)?));
        Ok(())
    }

    /// Where a place of the container is before that is entered.
    fn place(&self, at: &str) -> Result<CString> {
        text(&self.root.join(at.trim_matches('/')))
    }
}

impl Step {
    fn take(&self) -> io::Result<()> {
        let there = |outcome: Result<(), Errno>| match outcome {
            Err(Errno::EXIST) => Ok(()),
            other => other,
        };
        match self {
            Self::Directory(at) => there(mkdir(at.as_c_str(), Mode::from_raw_mode(0o755))),
            Self::File(at) => {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
                there(open(at.as_c_str(), flags, Mode::from_raw_mode(0o644)).map(drop))
            }
            Self::Link(to, at) => symlink(to.as_c_str(), at.as_c_str()),
            Self::Tmpfs(at) => {
                mount(c"tmpfs", at.as_c_str(), c"tmpfs", MountFlags::NOSUID, Some(c"mode=0755"))
            }
            Self::Bind(from, at) => mount_bind_recursive(from.as_c_str(), at.as_c_str()),
            Self::ReadOnly(at) => mount_remount(at.as_c_str(), MountFlags::BIND | MountFlags::RDONLY, c""),
        }?;
        Ok(())
    }
}

/// Leaves root no more than these from the next program on.
fn keep(wanted: CapabilitySet) -> io::Result<()> {
    clear_ambient_capability_set()?;
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        // Those above the last one are no capabilities.
        let Ok(is_there) = capability_is_in_bounding_set(one) else { break };
        if is_there && !wanted.contains(one) {
            remove_capability_from_bounding_set(one)?;
        }
    }
    Ok(())
}

fn named(names: &[String]) -> Result<CapabilitySet> {
    let one = |name: &String| CapabilitySet::from_name(name).with_context(|| format!("no capability {name}"));
    names.iter().map(one).collect()
}

fn text(path: &Path) -> Result<CString> {
    let path: &OsStr = path.as_os_str();
    CString::new(path.as_bytes()).with_context(|| path.display().to_string())
}
