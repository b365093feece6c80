//! Control groups of a node, in all hierarchies that the machine has: those of cgroup v1, or the one of v2. They are below that of this
//! process, but with v2, where groups with processes of their own cannot hand controllers down: there they are below the root.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::wait;

/// How their names begin. The number of the process that has made them follows.
const PREFIX: &str = "flannel-lab-";
/// The whole hierarchy of v2, where there is no other.
const UNIFIED: &str = "/sys/fs/cgroup";
/// With v2, a group that hands controllers down has no processes of its own: they are in this one below it.
const LEAF: &str = "init";

/// How many have been made by this process.
static MADE: AtomicU32 = AtomicU32::new(0);

/// The groups. They are removed when this is dropped, if nobody is in them any more.
#[derive(Debug)]
pub(super) struct Cgroups {
    groups: Vec<PathBuf>,
    unified: bool,
}

impl Cgroups {
    /// Makes new ones, for a node.
    pub fn new(node: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("which cgroups there are")?;
        let own = fs::read_to_string("/proc/self/cgroup").context("the own cgroups")?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{node}", std::process::id());
        let mut cgroups = Self { groups: Vec::new(), unified: false };
        for (mount, kind, options) in mounts.lines().filter_map(hierarchy) {
            cgroups.unified |= mount == UNIFIED;
            let parent =
                if mount == UNIFIED { UNIFIED.into() } else { own_group(mount, kind, options, &own) };
            sweep(&parent);
            let group = parent.join(&name);
            fs::create_dir(&group).with_context(|| format!("a cgroup {}", group.display()))?;
            // Without these nobody may be in it; it gets none by itself.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if kind == "cgroup" && group.join(file).exists() {
                    fs::copy(parent.join(file), group.join(file)).context(file)?;
                }
            }
            if mount == UNIFIED {
                hand_down(&parent);
                fs::create_dir(group.join(LEAF)).context("a cgroup for processes")?;
            }
            cgroups.groups.push(group);
        }
        Ok(cgroups)
    }

    /// Where they are.
    pub fn all(&self) -> &[PathBuf] {
        &self.groups
    }

    /// By which files a process enters them, to have them be all that is seen.
    pub fn roots(&self) -> Vec<PathBuf> {
        self.groups.iter().map(|group| group.join("cgroup.procs")).collect()
    }

    /// By which files it enters them to stay.
    pub fn leaves(&self) -> Vec<PathBuf> {
        let leaf = |group: &PathBuf| if self.unified { group.join(LEAF) } else { group.clone() };
        self.groups.iter().map(|group| leaf(group).join("cgroup.procs")).collect()
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for group in &self.groups {
            // Those who were in it may still be dying.
            let gone = wait::until_true("a cgroup is gone", || Ok(remove(group).is_ok()));
            if let Err(error) = gone {
                eprintln!("{} is left: {error:#}", group.display());
            }
        }
    }
}

/// The mount point, the type and the options of a line of `/proc/mounts`, if that is of cgroups.
fn hierarchy(line: &str) -> Option<(&str, &str, &str)> {
    let mut words = line.split(' ').skip(1);
    let (mount, kind, options) = (words.next()?, words.next()?, words.next()?);
    ["cgroup", "cgroup2"].contains(&kind).then_some((mount, kind, options))
}

/// The group that this process is in: `/proc/self/cgroup` has a line `number:controllers:path` for each hierarchy, without controllers for v2.
fn own_group(mount: &str, kind: &str, options: &str, own: &str) -> PathBuf {
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_it = if kind == "cgroup2" {
            controllers.is_empty()
        } else {
            let mut controllers = controllers.split(',');
            controllers.all(|controller| options.split(',').any(|option| option == controller))
                && !rest.starts_with(':')
        };
        is_it.then_some(path)
    });
    let inside = path.unwrap_or_default().trim_start_matches('/');
    let group = Path::new(mount).join(inside);
    // In a container the path may be that of outside.
    if group.is_dir() { group } else { mount.into() }
}

/// Has a group of v2 hand down all controllers that it has: systemd leaves out those that none of its units asks for.
fn hand_down(group: &Path) {
    let controllers = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        // One that cannot be had is missed by the kubelet, if it is needed.
        let _ = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Removes what was left by those who could not do it themselves, since they were killed.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Another one may sweep, too.
            let _ = remove(&entry.path());
        }
    }
}

/// Removes a group with all below it.
fn remove(group: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

#[cfg(test)]
mod tests {
    use super::{hierarchy, own_group};

    #[test]
    fn hierarchies_are_found_among_the_mounts() {
        let line = "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu,cpuacct 0 0";
        assert_eq!(hierarchy(line), Some(("/sys/fs/cgroup/cpu", "cgroup", "rw,relatime,cpu,cpuacct")));
        assert_eq!(hierarchy("tmpfs /run tmpfs rw 0 0"), None);
    }

    #[test]
    fn a_group_that_is_not_below_the_mount_is_not_believed() {
        let own = "2:cpu,cpuacct:/none/such\n0::/\n";
        let found = own_group("/proc/self", "cgroup", "rw,cpu,cpuacct", own);
        assert_eq!(found, std::path::Path::new("/proc/self"));
    }
}
