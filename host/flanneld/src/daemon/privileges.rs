//! What the daemon keeps of the capabilities that it was started with.

use std::path::{Path, PathBuf};

use flannel_privileges::{Capabilities, DAEMON, FILES, effective, give_up_all_but};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use tracing::{debug, info};

use crate::cli::{Options, Store};

/// Says what is kept, once there is a log.
pub struct Kept {
    /// A place that belongs to another user and that root could not write to without the capabilities for it.
    foreign: Option<PathBuf>,
    /// Why nothing could be given up.
    failed: Option<std::io::Error>,
}

/// Gives up all capabilities that the daemon does not use; to be called before the first thread is started. Root keeps those with which it
/// writes to others' files only where a directory of ours belongs to somebody else.
pub fn give_up(options: &Options) -> Kept {
    let before = effective();
    let foreign = foreign(before, options);
    let kept = if foreign.is_some() { DAEMON | FILES } else { DAEMON };
    Kept { foreign, failed: give_up_all_but(kept).err() }
}

impl Kept {
    /// Tells the operator, if there is anything to tell.
    pub fn announce(&self) {
        if let Some(place) = &self.foreign {
            info!(
                place = %place.display(),
                "this place belongs to another user, so flanneld keeps CAP_DAC_OVERRIDE and CAP_FOWNER to write there; `chown root` spares them"
            );
        }
        if let Some(error) = &self.failed {
            debug!(%error, "capabilities that are not needed cannot be given up");
        }
    }
}

/// A place to write to that needs more than being root.
fn foreign(before: Capabilities, options: &Options) -> Option<PathBuf> {
    if !before.contains(Capabilities::DAC_OVERRIDE) {
        return None;
    }
    // On a thread of its own, which gives up more than may turn out to be right.
    let places = places(options);
    let looked = std::thread::spawn(move || {
        give_up_all_but(DAEMON).ok()?;
        places.into_iter().find(|place| is_refused(place))
    });
    looked.join().ok().flatten()
}

/// Where the daemon writes, as far as it is there yet.
fn places(options: &Options) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for directory in [&options.state_dir, &options.cache_dir] {
        places.push(nearest(directory));
        // What an earlier run, of another user, has left there.
        let inside = std::fs::read_dir(directory).into_iter().flatten().flatten();
        places.extend(inside.map(|entry| entry.path()));
    }
    if let Store::File(directory) = &options.store {
        places.push(nearest(directory));
        places.push(nearest(&directory.join("subnets")));
    }
    let lock = PathBuf::from(format!("{}.lock", options.control_socket.display()));
    for file in [&options.subnet_file, &options.control_socket].into_iter().chain(&options.cni_conf_to) {
        places.push(nearest(file.parent().unwrap_or(file)));
    }
    places.extend([lock].into_iter().filter(|lock| lock.exists()));
    places
}

/// The place itself, or the directory in which it, or the first directory on the way to it, would be made.
fn nearest(place: &Path) -> PathBuf {
    let there = place.ancestors().find(|ancestor| ancestor.exists());
    there.unwrap_or(Path::new("/")).to_owned()
}

fn is_refused(place: &Path) -> bool {
    let mut wanted = Access::WRITE_OK;
    if place.is_dir() {
        wanted |= Access::EXEC_OK;
    }
    accessat(CWD, place, wanted, AtFlags::EACCESS) == Err(Errno::ACCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_yet_is_made_in_what_is() {
        let directory = tempfile::tempdir().expect("directory");
        assert_eq!(nearest(&directory.path().join("a/b/c")), directory.path());
        assert_eq!(nearest(directory.path()), directory.path());
    }
}
