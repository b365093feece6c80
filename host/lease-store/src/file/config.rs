//! The file `config`: read, and replaced as a whole if it is still what was read.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, Metadata, MetadataExt as _, OpenOptions, OpenOptionsExt as _};
use rustix::fs::{Gid, Uid, fchown};

use super::directory::{Directory, LOCK, UNFINISHED, discard, read, unfinished_name};
use crate::store::{ConfigWritten, StoreError};

const CONFIG: &str = "config";

/// Whether the config may be another when something has happened to the file of this name: it may be a link to a file by way of others in
/// the same directory, as in a mounted ConfigMap. What is written all the time is none of these.
pub(super) fn is_watched(name: &OsStr) -> bool {
    name.to_str().is_none_or(|name| name != LOCK && !name.starts_with(UNFINISHED))
}

impl Directory {
    pub(super) fn config_place(&self) -> String {
        format!("file {}", self.path().join(CONFIG).display())
    }

    pub(super) fn config(&self) -> Result<String, StoreError> {
        let read = self.dir().and_then(|dir| read(&dir, CONFIG));
        let bytes = read.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::NoConfig { place: self.config_place() },
            _ => self.failed("`config` cannot be read", &error),
        })?;
        String::from_utf8(bytes).map_err(|_| StoreError::Refused {
            place: self.config_place(),
            reason: "it is not UTF-8; right would be JSON".to_owned(),
        })
    }

    /// Writes it if it is still what was seen. Who writes it in another way takes no lock, and can come between the two.
    pub(super) fn write_config(&self, text: &str, seen: Option<&str>) -> Result<ConfigWritten, StoreError> {
        let dir = self.dir().map_err(|error| self.failed("it cannot be opened", &error))?;
        let _locked = self.lock(&dir)?;
        let found = match self.config() {
            Ok(found) => Some(found),
            Err(StoreError::NoConfig { .. }) => None,
            Err(error) => return Err(error),
        };
        if found.as_deref() == Some(text) {
            return Ok(ConfigWritten::Written);
        }
        if found.as_deref() != seen {
            return Ok(ConfigWritten::Overtaken(found));
        }
        replace(&dir, text).map_err(|error| self.failed("`config` cannot be written", &error))?;
        Ok(ConfigWritten::Written)
    }
}

/// Puts a text in the place of the file; where that is a link, of what it leads to.
fn replace(dir: &Dir, text: &str) -> io::Result<()> {
    let target = match dir.canonicalize(CONFIG) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => PathBuf::from(CONFIG),
        Err(error) => return Err(error),
    };
    let before = match dir.symlink_metadata(&target) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let unfinished = unfinished_name();
    let written = write_new(dir, &unfinished, text, before.as_ref())
        .and_then(|()| dir.rename(&unfinished, dir, &target));
    written.inspect_err(|_| discard(dir, &unfinished))?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    // Makes the new file survive a power failure. Not every file system can; then it survives the rest.
    let _ = dir.open(parent.unwrap_or(Path::new("."))).and_then(|parent| parent.sync_all());
    Ok(())
}

/// Writes a new file, with the owner and the mode of the one in whose place it comes.
fn write_new(dir: &Dir, name: &str, text: &str, before: Option<&Metadata>) -> io::Result<()> {
    // A config may have a secret in it: what is to be for few is never for all.
    let mode = if before.is_some() { 0o600 } else { 0o666 };
    let mut options = OpenOptions::new();
    let file = dir.open_with(name, options.write(true).create_new(true).mode(mode))?;
    let mut file = file.into_std();
    file.write_all(text.as_bytes())?;
    if let Some(before) = before {
        let made = Metadata::from_file(&file)?;
        if (made.uid(), made.gid()) != (before.uid(), before.gid()) {
            fchown(&file, Some(Uid::from_raw(before.uid())), Some(Gid::from_raw(before.gid())))?;
        }
        file.set_permissions(std::fs::Permissions::from_mode(before.mode() & 0o7777))?;
    }
    file.sync_all()
}
