//! Plugins' durable stores: `plugins/<store>/<key>` below the state directory, each value a file. A store's name is that of the plugin
//! and of where it comes from (see [`super::origin`]). The directory handle keeps every access below it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use flannel_privileges::with_privileges;
use tracing::{error, info, warn};

use super::artifact::BuiltIn;
use super::origin::Origin;

/// Keys of one plugin.
pub(crate) const KEYS: usize = 64;
/// Bytes of a value.
pub(crate) const VALUE: usize = 16 << 10;
const LONGEST_KEY: usize = 64;
/// How often something is written to the disk, however often plugins write.
const INTERVAL: Duration = Duration::from_secs(1);
/// What a file is called while it is being written; no key has this character.
const TEMPORARY: &str = "~new";

/// Keys with their new values, by store.
type Writes = BTreeMap<String, BTreeMap<String, Option<Vec<u8>>>>;

/// The stores of all plugins. Directories are made at the first write.
///
/// What is written first after a while is on the disk at once. What comes within a second of that is in memory and seen by everybody, and
/// goes to the disk together, when whoever keeps the stores calls [`DirState::flush`], or when they end.
pub struct DirState {
    disk: Arc<Disk>,
    /// Writes that wait for [`DirState::commit_pending`]; none: they go their way at once.
    waiting: Mutex<Option<Writes>>,
    /// The store whose contents the plugin that begins next is to find in its own.
    handed_over: Mutex<Option<String>>,
}

impl DirState {
    /// In this state directory.
    pub fn open(state_dir: &Path) -> Self {
        let disk = Disk { root: state_dir.join("plugins"), pending: Mutex::default() };
        Self { disk: Arc::new(disk), waiting: Mutex::new(None), handed_over: Mutex::new(None) }
    }

    /// The same stores for somebody who only rehearses: it sees what it writes, and nobody else does before it is settled. `take`: the
    /// store whose contents it gets in its own, in place of what that has; it stays as it is.
    #[must_use]
    pub fn shadow(&self, take: Option<String>) -> Self {
        let waiting = Mutex::new(Some(Writes::new()));
        Self { disk: Arc::clone(&self.disk), waiting, handed_over: Mutex::new(take) }
    }

    /// Gives the plugins that are built in what earlier versions have kept for their names. Whose another name was is not known: what was
    /// kept for it stays where it is.
    pub fn adopt_former(&self, built_in: &[BuiltIn]) {
        for name in built_in.iter().map(|plugin| plugin.backend_type) {
            let (former, now) = (self.disk.root.join(name), self.disk.root.join(Origin::BuiltIn.store(name)));
            if now.exists() || !former.is_dir() {
                continue;
            }
            match std::fs::rename(&former, &now) {
                Ok(()) => {
                    info!(plugin = name, store = %now.display(), "a former version's durable store is the built-in plugin's");
                }
                Err(error) => {
                    warn!(plugin = name, store = %former.display(), %error, "a former version's durable store cannot be taken over");
                }
            }
        }
    }

    /// A plugin that calls itself `name` begins with this store. Answers the stores of plugins of that name that are from elsewhere, if its own
    /// is empty: it may be that the operator expects it to have one of them.
    pub(crate) fn begin(&self, name: &str, store: &str) -> io::Result<Vec<String>> {
        let take = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(from) = take.filter(|from| from != store) {
            let mut writes: BTreeMap<String, Option<Vec<u8>>> =
                self.keys(store)?.into_iter().map(|key| (key, None)).collect();
            for key in self.keys(&from)? {
                let value = self.get(&from, &key)?;
                writes.insert(key, value);
            }
            self.apply(store, &writes)?;
            return Ok(Vec::new());
        }
        if self.keys(store)?.is_empty() { self.of_that_name(name, store) } else { Ok(Vec::new()) }
    }

    /// Stores with something in them for a name, but for one.
    fn of_that_name(&self, name: &str, but: &str) -> io::Result<Vec<String>> {
        let mut stores: Vec<String> = with_privileges(|| self.disk.stores())?.into_iter().collect();
        stores.retain(|store| {
            store.split('@').next() == Some(name)
                && store != but
                && self.keys(store).is_ok_and(|keys| !keys.is_empty())
        });
        Ok(stores)
    }

    /// What was written so far goes to the disk, and from now on all else does.
    pub fn commit_pending(&self) -> io::Result<()> {
        let mut waiting = self.waiting();
        for (store, writes) in waiting.iter().flatten() {
            self.disk.pending().add(store, writes);
        }
        *waiting = None;
        self.flush()
    }

    /// What is only in memory goes to the disk. What could not be written is tried again the next time.
    pub fn flush(&self) -> io::Result<()> {
        self.disk.flush().into_values().next().map_or(Ok(()), Err)
    }

    /// When what is only in memory is to go to the disk; none: there is nothing.
    pub fn flush_due(&self) -> Option<Instant> {
        self.disk.pending().due()
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Writes>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of a key in a store.
    pub fn get(&self, store: &str, key: &str) -> io::Result<Option<Vec<u8>>> {
        let written = |all: &Writes| all.get(store)?.get(key).cloned();
        if let Some(written) = self.waiting().as_ref().and_then(written) {
            return Ok(written);
        }
        if let Some(written) = written(&self.disk.pending().writes) {
            return Ok(written);
        }
        with_privileges(|| self.disk.get(store, key))
    }

    /// The keys in a store.
    pub fn keys(&self, store: &str) -> io::Result<BTreeSet<String>> {
        let mut keys = with_privileges(|| self.disk.keys(store))?;
        let mut over = |written: &Writes| {
            for (key, value) in written.get(store).into_iter().flatten() {
                if value.is_some() {
                    keys.insert(key.clone());
                } else {
                    keys.remove(key);
                }
            }
        };
        over(&self.disk.pending().writes);
        if let Some(waiting) = self.waiting().as_ref() {
            over(waiting);
        }
        Ok(keys)
    }

    /// Writes and removes keys. Each value is either the old or the new one, also after a crash.
    pub fn apply(&self, store: &str, writes: &BTreeMap<String, Option<Vec<u8>>>) -> io::Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        if let Some(waiting) = self.waiting().as_mut() {
            let all = waiting.entry(store.to_owned()).or_default();
            all.extend(writes.iter().map(|(key, value)| (key.clone(), value.clone())));
            return Ok(());
        }
        let before = {
            let mut pending = self.disk.pending();
            let before = pending.writes.get(store).cloned();
            pending.add(store, writes);
            if pending.due().is_some_and(|due| due > Instant::now()) {
                return Ok(());
            }
            before
        };
        let Some(error) = self.disk.flush().remove(store) else { return Ok(()) };
        // The call that wrote it has failed, and has written nothing.
        let mut pending = self.disk.pending();
        match before {
            Some(before) => drop(pending.writes.insert(store.to_owned(), before)),
            None => drop(pending.writes.remove(store)),
        }
        Err(error)
    }
}

/// The directories, and what is on its way there.
struct Disk {
    root: PathBuf,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    writes: Writes,
    /// When something was written last, or could not be.
    flushed: Option<Instant>,
}

impl Pending {
    fn add(&mut self, store: &str, writes: &BTreeMap<String, Option<Vec<u8>>>) {
        let all = self.writes.entry(store.to_owned()).or_default();
        all.extend(writes.iter().map(|(key, value)| (key.clone(), value.clone())));
    }

    fn due(&self) -> Option<Instant> {
        let at_once = || Instant::now();
        (!self.writes.is_empty()).then(|| self.flushed.map_or_else(at_once, |flushed| flushed + INTERVAL))
    }
}

impl Disk {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers what could not be written, by store: one that cannot be written holds up no other.
    fn flush(&self) -> BTreeMap<String, io::Error> {
        let mut pending = self.pending();
        let mut failed = BTreeMap::new();
        if pending.writes.is_empty() {
            return failed;
        }
        pending.flushed = Some(Instant::now());
        pending.writes.retain(|store, writes| match with_privileges(|| self.write(store, writes)) {
            Ok(()) => false,
            Err(error) => {
                failed.insert(store.clone(), error);
                true
            }
        });
        failed
    }

    /// The names of all stores, with something in them or without.
    fn stores(&self) -> io::Result<BTreeSet<String>> {
        let mut stores: BTreeSet<String> = self.pending().writes.keys().cloned().collect();
        match std::fs::read_dir(&self.root) {
            Ok(entries) => {
                for entry in entries {
                    stores.insert(entry?.file_name().to_string_lossy().into_owned());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(stores)
    }

    fn dir(&self, store: &str) -> io::Result<Option<Dir>> {
        match Dir::open_ambient_dir(&self.root, ambient_authority()).and_then(|root| root.open_dir(store)) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn get(&self, store: &str, key: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(dir) = self.dir(store)? else { return Ok(None) };
        match dir.read(key) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn keys(&self, store: &str) -> io::Result<BTreeSet<String>> {
        let Some(dir) = self.dir(store)? else { return Ok(BTreeSet::new()) };
        let names = dir.entries()?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names
            .filter(|name: &io::Result<String>| name.as_ref().map_or(true, |name| check_key(name).is_ok()))
            .collect()
    }

    fn write(&self, store: &str, writes: &BTreeMap<String, Option<Vec<u8>>>) -> io::Result<()> {
        std::fs::create_dir_all(self.root.join(store))?;
        let Some(dir) = self.dir(store)? else { return Err(io::ErrorKind::NotFound.into()) };
        for (key, value) in writes {
            match value {
                // Who writes the same over and over costs nothing.
                Some(value) if dir.read(key).is_ok_and(|kept| kept == *value) => {}
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

impl Drop for Disk {
    fn drop(&mut self) {
        for (store, error) in self.flush() {
            error!(store, %error, "what a plugin has written last cannot be kept");
        }
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
        real.apply("p", &[("kept".to_owned(), value("1")), ("gone".to_owned(), value("2"))].into())
            .expect("written");
        let shadow = real.shadow(None);
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

    #[allow(clippy::unnecessary_wraps, reason = "what is removed has no value")]
    fn value(text: &str) -> Option<Vec<u8>> {
        Some(text.as_bytes().to_vec())
    }

    #[test]
    fn what_is_handed_over_is_copied_when_the_rehearsal_is_settled_and_stays_with_its_owner() {
        let dir = tempfile::tempdir().expect("directory");
        let real = DirState::open(dir.path());
        real.apply("p@built-in", &[("a".to_owned(), value("1"))].into()).expect("written");
        real.apply("p@file:x", &[("old".to_owned(), value("2"))].into()).expect("written");
        let shadow = real.shadow(Some("p@built-in".to_owned()));
        assert_eq!(shadow.begin("p", "p@file:x").expect("begun"), Vec::<String>::new());
        assert_eq!(shadow.keys("p@file:x").expect("listed"), ["a".to_owned()].into());
        assert_eq!(real.keys("p@file:x").expect("listed"), ["old".to_owned()].into());
        shadow.commit_pending().expect("written");
        assert_eq!(real.get("p@file:x", "a").expect("read"), value("1"));
        assert_eq!(real.get("p@file:x", "old").expect("read"), None);
        assert_eq!(real.get("p@built-in", "a").expect("read"), value("1"));
        // A fresh instance of the same does not get it again.
        shadow.apply("p@file:x", &[("a".to_owned(), value("3"))].into()).expect("written");
        shadow.begin("p", "p@file:x").expect("begun");
        assert_eq!(real.get("p@file:x", "a").expect("read"), value("3"));
    }

    #[test]
    fn who_begins_with_nothing_is_told_of_stores_for_its_name_that_are_not_its_own() {
        let dir = tempfile::tempdir().expect("directory");
        let state = DirState::open(dir.path());
        assert!(state.begin("p", "p@file:x").expect("begun").is_empty(), "there is none");
        for store in ["p", "p@built-in", "pq@built-in", "q@file:p"] {
            state.apply(store, &[("a".to_owned(), value("1"))].into()).expect("written");
        }
        std::fs::create_dir(dir.path().join("plugins/p@oci:r%2Fp")).expect("an empty store");
        assert_eq!(state.begin("p", "p@file:x").expect("begun"), ["p", "p@built-in"]);
        assert_eq!(state.get("p@file:x", "a").expect("read"), None);
        state.apply("p@file:x", &[("b".to_owned(), value("1"))].into()).expect("written");
        assert!(state.begin("p", "p@file:x").expect("begun").is_empty(), "it has its own");
    }

    #[test]
    fn what_earlier_versions_kept_for_a_name_is_the_built_in_plugins_and_nobody_elses() {
        const BUILT: &[BuiltIn] =
            &[BuiltIn { backend_type: "gce", component: b"a component", compiled: None }];
        let dir = tempfile::tempdir().expect("directory");
        let state = DirState::open(dir.path());
        for name in ["gce", "my-net"] {
            state.apply(name, &[("a".to_owned(), value(name))].into()).expect("written");
        }
        state.adopt_former(BUILT);
        assert_eq!(state.get("gce@built-in", "a").expect("read"), value("gce"));
        assert_eq!(state.get("gce", "a").expect("read"), None);
        assert_eq!(state.get("my-net", "a").expect("read"), value("my-net"));
        // What comes back later is not put over what there is.
        state.apply("gce", &[("a".to_owned(), value("other"))].into()).expect("written");
        state.adopt_former(BUILT);
        assert_eq!(state.get("gce@built-in", "a").expect("read"), value("gce"));
    }

    #[test]
    fn what_is_written_first_is_kept_at_once_and_what_follows_together_and_seen_by_all_meanwhile() {
        let dir = tempfile::tempdir().expect("directory");
        let state = DirState::open(dir.path());
        let on_disk = |key: &str| std::fs::read(dir.path().join("plugins/p").join(key)).ok();
        let set = |key: &str, value| state.apply("p", &[(key.to_owned(), value)].into()).expect("written");
        assert_eq!(state.flush_due(), None);
        set("a", value("1"));
        assert_eq!((on_disk("a"), state.flush_due()), (value("1"), None));
        for n in 2..100 {
            set("a", value(&n.to_string()));
        }
        set("b", value("new"));
        assert!(state.flush_due().is_some_and(|due| due > Instant::now()));
        // A fresh instance, of which there may be many, changes nothing of that.
        assert!(state.begin("p", "p").expect("begun").is_empty());
        assert_eq!((on_disk("a"), on_disk("b")), (value("1"), None));
        let shadow = state.shadow(None);
        for store in [&state, &shadow] {
            assert_eq!(store.get("p", "a").expect("read"), value("99"));
            assert_eq!(store.keys("p").expect("listed"), ["a".to_owned(), "b".to_owned()].into());
        }
        // Whoever takes over has the last word.
        shadow.apply("p", &[("a".to_owned(), value("its"))].into()).expect("noted");
        shadow.commit_pending().expect("written");
        assert_eq!((on_disk("a"), on_disk("b"), state.flush_due()), (value("its"), value("new"), None));
        set("a", None);
        assert_eq!(state.get("p", "a").expect("read"), None);
        drop((state, shadow));
        assert_eq!(on_disk("a"), None, "nothing is lost at the end");
    }

    #[test]
    fn what_cannot_be_written_is_an_error_or_is_tried_again_if_it_was_promised() {
        let dir = tempfile::tempdir().expect("directory");
        let state = DirState::open(dir.path());
        let plugins = dir.path().join("plugins");
        let set = |key: &str| state.apply("p", &[(key.to_owned(), value("1"))].into());
        std::fs::write(&plugins, "in the way").expect("a file");
        set("refused").expect_err("it is told");
        assert_eq!(state.flush_due(), None);
        std::fs::remove_file(&plugins).expect("gone");
        state.disk.pending().flushed = None;
        set("a").expect("written");
        set("promised").expect("noted");
        std::fs::rename(&plugins, dir.path().join("aside")).expect("moved");
        std::fs::write(&plugins, "in the way").expect("a file");
        state.flush().expect_err("there is no way");
        assert!(state.flush_due().is_some());
        std::fs::remove_file(&plugins).expect("gone");
        state.flush().expect("written");
        assert_eq!(state.keys("p").expect("listed"), ["promised".to_owned()].into());
    }

    #[test]
    fn keys_cannot_leave_the_directory() {
        for wrong in ["", ".", "..", "a/b", "../x", "A", "a b", "a~", "\0", &"a".repeat(65)] {
            assert!(check_key(wrong).is_err(), "{wrong:?}");
        }
        assert!(check_key("...a").is_ok());
    }
}
