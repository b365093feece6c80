//! Plugins' durable stores: `plugins/<name>/<key>` below the state directory, each value a file. The directory handle keeps
//! every access below it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use flannel_privileges::with_privileges;

/// Keys of one plugin.
pub(crate) const KEYS: usize = 64;
/// Bytes of a value.
pub(crate) const VALUE: usize = 16 << 10;
const LONGEST_KEY: usize = 64;
/// What a file is called while it is being written; no key has this character.
const TEMPORARY: &str = "~new";

/// Keys with their new values, by plugin.
type Writes = BTreeMap<String, BTreeMap<String, Option<Vec<u8>>>>;

/// The stores of all plugins. Directories are made at the first write.
pub struct DirState {
    root: PathBuf,
    /// Writes that wait for [`DirState::settle`]; none: they go to the disk at once.
    waiting: Mutex<Option<Writes>>,
}

impl DirState {
    /// In this state directory.
    pub fn open(state_dir: &Path) -> Self {
        Self { root: state_dir.join("plugins"), waiting: Mutex::new(None) }
    }

    /// The same stores for somebody who only rehearses: it sees what it writes, and nobody else does before it is settled.
    #[must_use]
    pub fn shadow(&self) -> Self {
        Self { root: self.root.clone(), waiting: Mutex::new(Some(Writes::new())) }
    }

    /// What was written so far goes to the disk, and from now on all else does.
    pub fn commit_pending(&self) -> io::Result<()> {
        let mut waiting = self.waiting();
        for (plugin, writes) in waiting.iter().flatten() {
            self.write(plugin, writes)?;
        }
        *waiting = None;
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Writes>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, plugin: &str) -> io::Result<Option<Dir>> {
        match Dir::open_ambient_dir(&self.root, ambient_authority()).and_then(|root| root.open_dir(plugin)) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The value of a plugin's key.
    pub fn get(&self, plugin: &str, key: &str) -> io::Result<Option<Vec<u8>>> {
        let waiting = self.waiting();
        if let Some(written) = waiting.as_ref().and_then(|all| all.get(plugin)?.get(key)) {
            return Ok(written.clone());
        }
        with_privileges(|| {
            let Some(dir) = self.dir(plugin)? else { return Ok(None) };
            match dir.read(key) {
                Ok(value) => Ok(Some(value)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    /// The keys of a plugin.
    pub fn keys(&self, plugin: &str) -> io::Result<BTreeSet<String>> {
        let mut keys = with_privileges(|| self.keys_on_disk(plugin))?;
        for (key, value) in self.waiting().iter().filter_map(|all| all.get(plugin)).flatten() {
            if value.is_some() {
                keys.insert(key.clone());
            } else {
                keys.remove(key);
            }
        }
        Ok(keys)
    }

    fn keys_on_disk(&self, plugin: &str) -> io::Result<BTreeSet<String>> {
        let Some(dir) = self.dir(plugin)? else { return Ok(BTreeSet::new()) };
        let names = dir.entries()?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names
            .filter(|name: &io::Result<String>| name.as_ref().map_or(true, |name| check_key(name).is_ok()))
            .collect()
    }

    /// Writes and removes keys. Each value is either the old or the new one, also after a crash.
    pub fn apply(&self, plugin: &str, writes: &BTreeMap<String, Option<Vec<u8>>>) -> io::Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        if let Some(waiting) = self.waiting().as_mut() {
            let all = waiting.entry(plugin.to_owned()).or_default();
            all.extend(writes.iter().map(|(key, value)| (key.clone(), value.clone())));
            return Ok(());
        }
        with_privileges(|| self.write(plugin, writes))
    }

    fn write(&self, plugin: &str, writes: &BTreeMap<String, Option<Vec<u8>>>) -> io::Result<()> {
        std::fs::create_dir_all(self.root.join(plugin))?;
        let Some(dir) = self.dir(plugin)? else { return Err(io::ErrorKind::NotFound.into()) };
        for (key, value) in writes {
            match value {
                Some(value) => {
                    let temporary = format!("{key}{TEMPORARY}");
                    let mut options = OpenOptions::new();
                    let mut file =
                        dir.open_with(&temporary, options.write(true).create(true).truncate(true))?;
                    file.write_all(value)?;
                    file.sync_all()?;
                    dir.rename(&temporary, &dir, key)?;
                }
                None => match dir.remove_file(key) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                },
            }
        }
        Ok(())
    }
}

/// Whether a key may be used; the error says what a key is.
pub(crate) fn check_key(key: &str) -> Result<(), String> {
    let proper = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    // Names of one or two dots are directories.
    if (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(proper) && key.bytes().any(|b| b != b'.') {
        return Ok(());
    }
    Err(format!(
        "{:?} is no key: 1 to {LONGEST_KEY} of a-z, 0-9, `-`, `_`, `.`",
        key.chars().take(80).collect::<String>()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_there_at_the_next_start() {
        let dir = tempfile::tempdir().expect("directory");
        let writes = [("a.b-c_1".to_owned(), Some(b"value".to_vec())), ("gone".to_owned(), None)].into();
        DirState::open(dir.path()).apply("vxlan", &writes).expect("written");
        let again = DirState::open(dir.path());
        assert_eq!(again.get("vxlan", "a.b-c_1").expect("read").as_deref(), Some(&b"value"[..]));
        assert_eq!(again.get("other", "a.b-c_1").expect("read"), None, "each plugin has its own");
        assert_eq!(again.keys("vxlan").expect("listed"), ["a.b-c_1".to_owned()].into());
        again.apply("vxlan", &[("a.b-c_1".to_owned(), None)].into()).expect("removed");
        assert_eq!(again.get("vxlan", "a.b-c_1").expect("read"), None);
    }

    #[test]
    fn what_a_rehearsal_writes_is_its_own_until_it_is_settled() {
        let dir = tempfile::tempdir().expect("directory");
        let real = DirState::open(dir.path());
        let value = |text: &str| Some(text.as_bytes().to_vec());
        real.apply("p", &[("kept".to_owned(), value("1")), ("gone".to_owned(), value("2"))].into())
            .expect("written");
        let shadow = real.shadow();
        shadow
            .apply("p", &[("new".to_owned(), value("3")), ("gone".to_owned(), None)].into())
            .expect("noted");
        assert_eq!(shadow.get("p", "new").expect("read"), value("3"));
        assert_eq!(shadow.keys("p").expect("listed"), ["kept".to_owned(), "new".to_owned()].into());
        assert_eq!(real.keys("p").expect("listed"), ["gone".to_owned(), "kept".to_owned()].into());
        shadow.commit_pending().expect("written");
        assert_eq!(real.keys("p").expect("listed"), ["kept".to_owned(), "new".to_owned()].into());
        shadow.apply("p", &[("later".to_owned(), value("4"))].into()).expect("written");
        assert_eq!(real.get("p", "later").expect("read"), value("4"));
    }

    #[test]
    fn keys_cannot_leave_the_directory() {
        for wrong in ["", ".", "..", "a/b", "../x", "A", "a b", "a~", "\0", &"a".repeat(65)] {
            assert!(check_key(wrong).is_err(), "{wrong:?}");
        }
        assert!(check_key("...a").is_ok());
    }
}
