//! The directory itself: reading and writing its files. Everything here waits for the disk.

use std::collections::HashMap;
use std::fs::TryLockError;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, MetadataExt as _, OpenOptions, OpenOptionsExt as _};
use flannel_base::regular_file::NONBLOCK;
use flannel_base::text::excerpt;
use flannel_model::codec;
use flannel_model::lease::{Attributes, Lease, Subnets};
use rustix::io::Errno;
use tracing::{info, warn};

use super::clock::Clock;
use crate::allocate::{self, random};
use crate::store::{Acquire, LEASE_TTL, Renewed, StoreError};

const SUBNETS: &str = "subnets";
pub(super) const LOCK: &str = ".lock";
/// What files are called that are not complete yet.
pub(super) const UNFINISHED: &str = ".unfinished-";
/// A file longer than this is not read; etcd would not take it either.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// How long the lock is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// A file that changed this shortly ago is read again although it looks the same: time stamps are coarse.
const FRESH: Duration = Duration::from_secs(2);
/// How often a subnet is chosen anew because somebody who does not lock was faster.
const ATTEMPTS: u32 = 10;

/// A lease directory.
pub(super) struct Directory {
    path: PathBuf,
    clock: Clock,
    /// When this process has written which lease last, by the file's time stamp.
    written: Mutex<HashMap<Subnets, SystemTime>>,
}

/// A file in `subnets` whose name is that of a lease.
pub(super) struct Entry {
    pub(super) subnets: Subnets,
    pub(super) content: Content,
    pub(super) expires: SystemTime,
    /// The file's own time stamp.
    modified: SystemTime,
    /// When the file was made: renewals write into it. Where the file system does not say, when it was last renewed.
    born: SystemTime,
}

/// What is in a file.
pub(super) enum Content {
    /// What was in it when it was looked at last.
    Same,
    /// This.
    New(Attributes),
    /// Nothing that can be read. The subnets are taken all the same.
    Unreadable,
}

impl Entry {
    pub(super) fn is_over(&self) -> bool {
        self.expires <= SystemTime::now()
    }

    /// As a lease, if it was read and is not over.
    pub(super) fn into_lease(self) -> Option<Lease> {
        let over = self.is_over();
        let Content::New(attributes) = self.content else { return None };
        let lease = Lease { subnets: self.subnets, attributes, expires: Some(self.expires) };
        (!over).then_some(lease)
    }

    /// What is published, if it was read.
    fn attributes(&self) -> Option<&Attributes> {
        match &self.content {
            Content::New(attributes) => Some(attributes),
            Content::Same | Content::Unreadable => None,
        }
    }
}

/// How files looked when they were last read, and what was wrong with them, so that only those that changed are read again.
#[derive(Default)]
pub(super) struct Cache(HashMap<String, (Stamp, Option<String>)>);

/// By what a file is recognised as unchanged.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    changed: (i64, i64),
    size: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self { inode: metadata.ino(), changed, size: metadata.size() }
    }

    fn is_fresh(&self, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        now.as_secs().abs_diff(u64::try_from(self.changed.0).unwrap_or_default()) <= FRESH.as_secs()
    }
}

impl Directory {
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), clock: Clock::default(), written: Mutex::default() }
    }

    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let wrong = |reason: String| StoreError::Setup {
            what: "lease directory",
            value: path.display().to_string(),
            reason,
        };
        let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                wrong("it does not exist: make it, and write the network config to `config` in it".to_owned())
            }
            _ => wrong(error.to_string()),
        })?;
        if !metadata.is_dir() {
            return Err(wrong("it is no directory".to_owned()));
        }
        let directory = Self::at(path);
        directory
            .complete_dir()
            .map_err(|error| wrong(format!("`{SUBNETS}` in it cannot be made or read: {error}")))?;
        Ok(directory)
    }

    /// Opened for each use: a directory that was mounted or made anew meanwhile is the one that counts.
    pub(super) fn dir(&self) -> io::Result<Dir> {
        Dir::open_ambient_dir(&self.path, ambient_authority())
    }

    /// The directory, with `subnets` in it. Readers do not make that: the directory of a file system that is not mounted must
    /// not look like one without leases.
    fn complete_dir(&self) -> io::Result<Dir> {
        let dir = self.dir()?;
        match dir.create_dir(SUBNETS) {
            Err(error) if !dir.is_dir(SUBNETS) => Err(error),
            _ => dir.read_dir(SUBNETS).map(|_| dir),
        }
    }

    /// Where it is, for messages.
    pub(super) fn place(&self) -> String {
        format!("lease directory {}", self.path.display())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory with the leases.
    pub(super) fn subnets(&self) -> PathBuf {
        self.path.join(SUBNETS)
    }

    pub(super) fn failed(&self, doing: &str, error: &io::Error) -> StoreError {
        let (place, reason) = (self.place(), format!("{doing}: {error}"));
        match error.kind() {
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::Unsupported => StoreError::Refused { place, reason },
            _ => StoreError::Unavailable { place, reason },
        }
    }

    pub(super) fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        Ok(self.scan(&mut Cache::default())?.into_iter().filter_map(Entry::into_lease).collect())
    }

    /// Reads all leases, the oldest first; files that are as they were in the cache are not read again.
    pub(super) fn scan(&self, cache: &mut Cache) -> Result<Vec<Entry>, StoreError> {
        let scanned = self.dir().and_then(|dir| self.scan_dir(&dir, cache));
        scanned.map_err(|error| self.failed("`subnets` cannot be read", &error))
    }

    fn scan_dir(&self, dir: &Dir, cache: &mut Cache) -> io::Result<Vec<Entry>> {
        self.clock.set_by(dir, LOCK);
        let dir = dir.open_dir(SUBNETS)?;
        let (mut entries, mut seen) = (Vec::new(), HashMap::new());
        for file in dir.entries()? {
            let name = file?.file_name();
            let Some(name) = name.to_str() else {
                warn!(file = %self.subnets().join(&name).display(), "a file is left out: its name is not UTF-8");
                continue;
            };
            let Some((stamp, error, entry)) = self.look(&dir, name, cache.0.get(name))? else { continue };
            entries.extend(entry);
            seen.insert(name.to_owned(), (stamp, error));
        }
        cache.0 = seen;
        entries.sort_unstable_by_key(|entry| (entry.born, entry.subnets));
        Ok(entries)
    }

    /// Reads some files by their names. With each comes what is in it; none: the file is gone, or is no lease's.
    pub(super) fn read_some(
        &self,
        names: impl IntoIterator<Item = String>,
        cache: &mut Cache,
    ) -> Result<Vec<(String, Option<Entry>)>, StoreError> {
        let read = || -> io::Result<Vec<(String, Option<Entry>)>> {
            let dir = self.dir()?.open_dir(SUBNETS)?;
            let mut found = Vec::new();
            for name in names {
                let entry = if let Some((stamp, error, entry)) = self.look(&dir, &name, cache.0.get(&name))? {
                    cache.0.insert(name.clone(), (stamp, error));
                    entry
                } else {
                    cache.0.remove(&name);
                    None
                };
                found.push((name, entry));
            }
            Ok(found)
        };
        read().map_err(|error| self.failed("`subnets` cannot be read", &error))
    }

    /// Looks at a file, and reads it unless it is as it was. None: it is not there.
    #[allow(clippy::type_complexity, reason = "for the two callers right above")]
    fn look(
        &self,
        dir: &Dir,
        name: &str,
        before: Option<&(Stamp, Option<String>)>,
    ) -> io::Result<Option<(Stamp, Option<String>, Option<Entry>)>> {
        let metadata = match dir.symlink_metadata(name) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let stamp = Stamp::of(&metadata);
        let (content, error) = match before {
            Some((same, error)) if *same == stamp && !stamp.is_fresh(self.clock.now()) => {
                (if error.is_some() { Content::Unreadable } else { Content::Same }, error.clone())
            }
            _ => match read_entry(dir, name, &metadata) {
                Ok(Ok(attributes)) => (Content::New(attributes), None),
                Ok(Err(error)) => (Content::Unreadable, Some(error)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => (Content::Unreadable, Some(error.to_string())),
            },
        };
        if let Some(error) = &error {
            // Once, not at each reading.
            if before.is_none_or(|(_, before)| before.as_ref() != Some(error)) {
                warn!(directory = %self.subnets().display(), file = excerpt(name), "a file is left out: {error}");
            }
        }
        let entry = codec::parse_key_name(name).ok();
        let born = metadata.created().or_else(|_| metadata.modified());
        let born = born.map_or(SystemTime::UNIX_EPOCH, cap_std::time::SystemTime::into_std);
        let modified = modified(&metadata);
        let expires = self.end_of(modified);
        let entry = entry.map(|subnets| Entry { subnets, content, expires, modified, born });
        Ok(Some((stamp, error, entry)))
    }

    pub(super) fn acquire(&self, request: &Acquire) -> Result<Lease, StoreError> {
        allocate::check(request)?;
        let dir = self.complete_dir().map_err(|error| self.failed("it cannot be opened", &error))?;
        let _locked = self.lock(&dir)?;
        let acquired = self.acquire_locked(&dir, request);
        acquired.map_err(|error| self.failed("a lease cannot be written", &error))?
    }

    fn acquire_locked(&self, dir: &Dir, request: &Acquire) -> io::Result<Result<Lease, StoreError>> {
        remove_unfinished(dir);
        self.clock.set_by(dir, LOCK);
        // The short way: the previous subnets' file is this node's. Then nothing else need be read.
        let previous = request.previous.filter(|subnets| allocate::compatible(&request.config, subnets));
        if let Some(subnets) = previous
            && dir.symlink_metadata(file_of(&subnets)).is_ok_and(|metadata| metadata.is_file())
            && let Ok(bytes) = read(dir, &file_of(&subnets))
            && codec::decode(&bytes).is_ok_and(|found| allocate::is_own(request, &found))
        {
            return Ok(Ok(self.take_up(dir, subnets, request)?));
        }
        for _ in 0..ATTEMPTS {
            let mut leased = Vec::new();
            let mut own = None;
            for entry in self.scan_dir(dir, &mut Cache::default())? {
                let is_own = entry.attributes().is_some_and(|a| allocate::is_own(request, a));
                let unfit = is_own && !allocate::compatible(&request.config, &entry.subnets);
                if is_own && !unfit && own.is_none() {
                    own = Some(entry.subnets);
                } else if unfit || (!is_own && entry.attributes().is_some() && entry.is_over()) {
                    let why = if unfit { "this node's, and does not fit the network config" } else { "over" };
                    info!(subnet = %entry.subnets, "a lease is removed: it is {why}");
                    remove(dir, &entry.subnets)?;
                } else {
                    leased.push(entry.subnets);
                }
            }
            if let Some(subnets) = own {
                return Ok(Ok(self.take_up(dir, subnets, request)?));
            }
            let subnets = match allocate::choose(request, leased.iter()) {
                Ok(subnets) => subnets,
                Err(error) => return Ok(Err(error)),
            };
            if let Some(expires) = self.create(dir, &subnets, &request.attributes)? {
                let attributes = request.attributes.clone();
                return Ok(Ok(Lease { subnets, attributes, expires: Some(expires) }));
            }
        }
        let reason = "somebody writes leases there without locking `.lock`".to_owned();
        Ok(Err(StoreError::Unavailable { place: self.place(), reason }))
    }

    pub(super) fn renew(&self, lease: &Lease, attributes: &Attributes) -> Result<Renewed, StoreError> {
        let dir = self.dir().map_err(|error| self.failed("it cannot be opened", &error))?;
        let _locked = self.lock(&dir)?;
        self.clock.set_by(&dir, LOCK);
        let renewed = self.renew_locked(&dir, lease, attributes);
        renewed.map_err(|error| self.failed("a lease cannot be written", &error))
    }

    fn renew_locked(&self, dir: &Dir, lease: &Lease, attributes: &Attributes) -> io::Result<Renewed> {
        let has_v4 = lease.subnets.v4.is_some();
        // The second, in case an earlier attempt has got through and was not told.
        let is_ours = |found: &Attributes| {
            allocate::same_owner(has_v4, &lease.attributes, found)
                || allocate::same_owner(has_v4, attributes, found)
        };
        let bytes = match read(dir, &file_of(&lease.subnets)) {
            Ok(bytes) => bytes,
            // Only where other leases would be is a missing one lost.
            Err(error) if error.kind() == io::ErrorKind::NotFound && dir.is_dir(SUBNETS) => {
                return Ok(Renewed::Lost);
            }
            Err(error) => return Err(error),
        };
        match codec::decode(&bytes) {
            Ok(found) if !is_ours(&found) => return Ok(Renewed::Lost),
            Ok(_) => {}
            // Nobody else's: the node still has the subnet, and puts its value back.
            Err(error) => warn!(subnet = %lease.subnets, "this node's own lease is written anew: {error}"),
        }
        Ok(Renewed::Until(Some(self.put(dir, &lease.subnets, attributes)?)))
    }

    /// When a lease ends whose file has this time stamp, by this machine's clock.
    fn end_of(&self, modified: SystemTime) -> SystemTime {
        let modified = self.clock.to_ours(modified);
        modified.checked_add(LEASE_TTL).unwrap_or(modified)
    }

    /// Writes this node's own lease anew.
    fn take_up(&self, dir: &Dir, subnets: Subnets, request: &Acquire) -> io::Result<Lease> {
        info!(subnet = %subnets, "this node has a lease already");
        let expires = self.put(dir, &subnets, &request.attributes)?;
        Ok(Lease { subnets, attributes: request.attributes.clone(), expires: Some(expires) })
    }

    /// Renews a file that is there, and replaces what is in it if it is something else. Answers the new end.
    fn put(&self, dir: &Dir, subnets: &Subnets, attributes: &Attributes) -> io::Result<SystemTime> {
        let (name, value) = (file_of(subnets), codec::encode(attributes));
        let before = dir.symlink_metadata(&name)?.modified()?.into_std();
        let modified = before.max(self.clock.now());
        self.write(dir, *subnets, || {
            if read(dir, &name)? == value.as_bytes() {
                open(dir, &name, OpenOptions::new().write(true))?.set_modified(modified)
            } else {
                let unfinished = write_unfinished(dir, &value, modified)?;
                dir.rename(&unfinished, dir, &name).inspect_err(|_| discard(dir, &unfinished))?;
                sync(dir);
                Ok(())
            }
        })?;
        Ok(self.end_of(modified))
    }

    /// Writes a file that is not there yet; none: it is. It appears as a whole, with `link`, which never replaces.
    fn create(
        &self,
        dir: &Dir,
        subnets: &Subnets,
        attributes: &Attributes,
    ) -> io::Result<Option<SystemTime>> {
        let now = self.clock.now();
        let unfinished = write_unfinished(dir, &codec::encode(attributes), now)?;
        let linked = self.write(dir, *subnets, || dir.hard_link(&unfinished, dir, file_of(subnets)));
        discard(dir, &unfinished);
        match linked {
            Ok(()) => {
                sync(dir);
                Ok(Some(self.end_of(now)))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a lease of this process, and takes note of its time stamp as the file system has it, before anybody here can look at it.
    fn write(&self, dir: &Dir, subnets: Subnets, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        work()?;
        written.insert(subnets, modified(&dir.symlink_metadata(file_of(&subnets))?));
        Ok(())
    }

    /// Whether somebody else has written a lease of this process since it did. Each write is told of once. A time stamp far in the future is a
    /// reservation, which the operator has made.
    pub(super) fn is_foreign(&self, entry: &Entry) -> bool {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let is_reservation = entry.modified > self.clock.now() + LEASE_TTL;
        match written.get_mut(&entry.subnets) {
            Some(last) if entry.modified > *last && !is_reservation => {
                *last = entry.modified;
                true
            }
            _ => false,
        }
    }

    /// Takes the writers' lock; held until the file is dropped.
    pub(super) fn lock(&self, dir: &Dir) -> Result<std::fs::File, StoreError> {
        let failed = |error: &io::Error| self.failed("`.lock` cannot be locked", error);
        let file = open(dir, LOCK, OpenOptions::new().create(true).write(true)).map_err(|e| failed(&e))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT => {
                    sleep(Duration::from_millis(1 + random() % 10));
                }
                Err(TryLockError::WouldBlock) => {
                    let reason = format!("`.lock` is held by another process for {} s", LOCK_WAIT.as_secs());
                    return Err(StoreError::Unavailable { place: self.place(), reason });
                }
                Err(TryLockError::Error(error)) => return Err(failed(&error)),
            }
        }
    }
}

fn file_of(subnets: &Subnets) -> String {
    format!("{SUBNETS}/{}", codec::key_name(subnets))
}

fn modified(metadata: &Metadata) -> SystemTime {
    metadata.modified().map_or(SystemTime::UNIX_EPOCH, cap_std::time::SystemTime::into_std)
}

/// Reads a file of `subnets`; the inner error says why it is no lease.
fn read_entry(dir: &Dir, name: &str, metadata: &Metadata) -> io::Result<Result<Attributes, String>> {
    if !metadata.is_file() {
        // Opening a pipe would wait for its writer.
        return Ok(Err("it is no regular file".to_owned()));
    }
    let bytes = read(dir, name)?;
    Ok(codec::read_entry(name, &bytes).map(|(_, attributes)| attributes).map_err(|error| error.to_string()))
}

pub(super) fn read(dir: &Dir, name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(dir, name, OpenOptions::new().read(true))?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a regular file. Anything else is refused at once: a pipe would keep who opens it waiting for its other end.
fn open(dir: &Dir, name: &str, options: &mut OpenOptions) -> io::Result<std::fs::File> {
    let irregular = || io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
    let file = dir.open_with(name, options.custom_flags(NONBLOCK)).map_err(|error| {
        // A pipe that nobody reads, opened for writing.
        if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) { irregular() } else { error }
    })?;
    if file.metadata()?.is_file() { Ok(file.into_std()) } else { Err(irregular()) }
}

pub(super) fn unfinished_name() -> String {
    format!("{UNFINISHED}{:016x}", random())
}

fn write_unfinished(dir: &Dir, value: &str, modified: SystemTime) -> io::Result<String> {
    let name = unfinished_name();
    let written =
        dir.open_with(&name, OpenOptions::new().write(true).create_new(true)).and_then(|mut file| {
            file.write_all(value.as_bytes())?;
            let file = file.into_std();
            file.set_modified(modified)?;
            file.sync_all()
        });
    written.inspect_err(|_| discard(dir, &name))?;
    Ok(name)
}

/// Removes what a crash left; the lock is held, so nobody is at it.
fn remove_unfinished(dir: &Dir) {
    for file in dir.entries().into_iter().flatten().flatten() {
        if let Some(name) = file.file_name().to_str().filter(|name| name.starts_with(UNFINISHED)) {
            discard(dir, name);
        }
    }
}

pub(super) fn discard(dir: &Dir, name: &str) {
    if let Err(error) = dir.remove_file(name) {
        warn!(file = name, %error, "an unfinished file is left in the lease directory");
    }
}

fn remove(dir: &Dir, subnets: &Subnets) -> io::Result<()> {
    match dir.remove_file(file_of(subnets)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a new name survive a power failure. Not every file system can; then it survives the rest.
fn sync(dir: &Dir) {
    let _ = dir.open(SUBNETS).and_then(|subnets| subnets.sync_all());
}
