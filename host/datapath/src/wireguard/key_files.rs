//! Where this node's WireGuard key is kept, and which one it is where there are several.
//!
//! The key is the node's identity for its peers, so it is kept with the rest of the daemon's state: over restarts and reboots, and apart
//! from other daemons on the same host. Upstream keeps it at one place for all of them, where it is gone with the next reboot. A key that
//! is there is taken over if it is this node's: if the node's lease or device has it.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flannel_base::Secret;
use flannel_base::trusted_dir::TrustedDir;
use flannel_base::trusted_file;
use flannel_model::wireguard::{Keys, PublicKey, SecretKey};
use tracing::{error, info, warn};

/// Upstream's place.
const UPSTREAM: &str = "/run/flannel/wgkey";
/// The file's name in the state directory.
const NAME: &str = "wgkey";
/// Says where the key is instead, as upstream.
const VARIABLE: &str = "WIREGUARD_KEY_FILE";
/// For its owner's eyes only.
const KEY_FILE_MODE: u32 = 0o400;
/// The largest file that is read: a key has 45 bytes.
const MAX_BYTES: u64 = 4096;

/// The places where this node's key may be.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// The one that the operator has named; it alone counts.
    named: Option<PathBuf>,
    own: PathBuf,
    upstream: PathBuf,
}

impl KeyFiles {
    /// Those of a daemon with this state directory.
    pub fn of(state_dir: &Path) -> Self {
        let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
        Self { named: named.map(PathBuf::from), own: state_dir.join(NAME), upstream: UPSTREAM.into() }
    }

    /// Whether there are two keys to choose from, so that what the node published before is to be known.
    pub fn is_undecided(&self) -> bool {
        self.named.is_none() && self.upstream.exists()
    }

    /// This node's keys. `in_use` is what the node's lease and its devices have, the lease first: what peers know it by stays.
    /// If there is no key yet, one is made; so it is if another node has it, too, which is `avoided`. The error is one line, with the file and
    /// what would be right.
    pub fn choose(&self, in_use: &[PublicKey], avoided: impl Fn(&PublicKey) -> bool) -> Result<Keys, String> {
        if let Some(named) = &self.named {
            let keys = load_or_make(named)?;
            if avoided(&keys.public) {
                error!(file = %named.display(), "another node has this WireGuard key, too: give each node a key of its own");
            }
            return Ok(keys);
        }
        let mut own = load(&self.own)?;
        if own.as_ref().is_some_and(|keys| avoided(&keys.public)) {
            let made =
                generate().map_err(|error| format!("no random numbers for a WireGuard key: {error}"))?;
            replace(&made, &self.own).map_err(|error| unwritable(&self.own, &error))?;
            info!(file = %self.own.display(), public_key = %made.public, "another WireGuard key made");
            own = Some(made);
        }
        let upstream = load(&self.upstream).unwrap_or_else(|error| {
            warn!("{error}: upstream's key is not taken over");
            None
        });
        let upstream = upstream.filter(|keys| !avoided(&keys.public));
        for key in in_use {
            if let Some(keys) = own.as_ref().filter(|keys| keys.public == *key) {
                return Ok(keys.clone());
            }
            if let Some(keys) = upstream.as_ref().filter(|keys| keys.public == *key) {
                replace(keys, &self.own).map_err(|error| unwritable(&self.own, &error))?;
                info!(
                    from = %self.upstream.display(), to = %self.own.display(), public_key = %keys.public,
                    "this node's WireGuard key taken over"
                );
                return Ok(keys.clone());
            }
        }
        match own {
            Some(keys) => Ok(keys),
            None => load_or_make(&self.own),
        }
    }
}

fn unwritable(file: &Path, error: &io::Error) -> String {
    format!(
        "the WireGuard key cannot be written to {}: {error}; name another place with --state-dir or {VARIABLE}",
        file.display()
    )
}

/// Reads the private key from a file, or makes one and writes it there, for its owner's eyes only. Of two that make one at the same
/// time, both have the one that came first.
fn load_or_make(file: &Path) -> Result<Keys, String> {
    if let Some(keys) = load(file)? {
        return Ok(keys);
    }
    let made = generate().map_err(|error| format!("no random numbers for a WireGuard key: {error}"))?;
    match create(&made, file) {
        Ok(()) => {
            info!(file = %file.display(), public_key = %made.public, "WireGuard key made");
            Ok(made)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            load(file)?.ok_or_else(|| unwritable(file, &error))
        }
        Err(error) => Err(unwritable(file, &error)),
    }
}

/// The keys of a file; none: it is not there.
fn load(file: &Path) -> Result<Option<Keys>, String> {
    match read(file) {
        Ok(text) => match text.parse() {
            Ok(private) => Ok(Some(Keys::of(private))),
            Err(error) => Err(format!("{}: {error}; remove it, and a new key is made", file.display())),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("the WireGuard key cannot be read from {}: {error}", file.display())),
    }
}

/// Reads a file of the size that a key may have, which nobody else can have put there: whoever did would be this node for its peers. Whatever
/// else is there in its place is an error, and never waited for.
fn read(file: &Path) -> io::Result<String> {
    let opened = trusted_file::open(file)?;
    let about = opened.metadata()?;
    if about.len() > MAX_BYTES {
        return Err(io::Error::other("it is too large for a key"));
    }
    if about.mode() & 0o077 != 0 {
        warn!(file = %file.display(), mode = format!("{:o}", about.mode() & 0o7777), "others may read the WireGuard key: `chmod 400` it");
    }
    let mut text = String::new();
    opened.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// New keys.
fn generate() -> io::Result<Keys> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    // As `wg genkey` does it: the bits that X25519 sets and clears anyway.
    bytes[0] &= 0xf8;
    bytes[31] = (bytes[31] & 0x7f) | 0x40;
    Ok(Keys::of(SecretKey::from_bytes(bytes)))
}

/// Writes the private key to a file that is not there yet, for its owner's eyes only. An error if it is there by now.
fn create(keys: &Keys, file: &Path) -> io::Result<()> {
    let (directory, name) = place(file)?;
    directory.create(name, |opened| write(keys, opened))
}

/// Writes the private key to a file, in the place of what was there.
fn replace(keys: &Keys, file: &Path) -> io::Result<()> {
    let (directory, name) = place(file)?;
    directory.replace(name, |opened| write(keys, opened)).map(drop)
}

/// The directory of a file, where nobody else can exchange it, and its name. Upstream's is one where everybody may look.
fn place(file: &Path) -> io::Result<(TrustedDir, &str)> {
    let name = file.file_name().and_then(|name| name.to_str());
    let (Some(parent), Some(name)) = (file.parent(), name) else {
        return Err(io::Error::new(ErrorKind::InvalidInput, "its name is no text"));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    Ok((TrustedDir::make_shared(parent)?, name))
}

fn write(keys: &Keys, file: &mut File) -> io::Result<()> {
    let text = Secret::new(BASE64_STANDARD.encode(keys.private.bytes()) + "\n");
    file.write_all(text.reveal().as_bytes())?;
    file.set_permissions(Permissions::from_mode(KEY_FILE_MODE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(directory: &Path) -> KeyFiles {
        KeyFiles { named: None, own: directory.join("state/wgkey"), upstream: directory.join("upstream") }
    }

    fn made(file: &Path) -> PublicKey {
        load_or_make(file).expect("a key").public
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().expect("directory");
        let files = files(directory.path());
        let first = files.choose(&[], |_| false).expect("a new key");
        assert_eq!(files.choose(&[], |_| false).expect("the same key"), first);
        let mode = std::fs::metadata(&files.own).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
        assert_ne!(made(&directory.path().join("other")), first.public);
    }

    #[test]
    fn those_who_start_at_the_same_time_have_one_key() {
        let directory = tempfile::tempdir().expect("directory");
        let files = files(directory.path());
        for _ in 0..20 {
            let keys: Vec<PublicKey> = std::thread::scope(|scope| {
                let start = || scope.spawn(|| files.choose(&[], |_| false).expect("a key").public);
                let threads: Vec<_> = (0..4).map(|_| start()).collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
            std::fs::remove_file(&files.own).expect("removed");
        }
    }

    #[test]
    fn upstreams_key_is_taken_over_where_the_node_is_known_by_it() {
        let directory = tempfile::tempdir().expect("directory");
        let files = files(directory.path());
        let upstream = made(&files.upstream);
        assert_eq!(files.choose(&[upstream], |_| false).expect("taken over").public, upstream);
        std::fs::remove_file(&files.upstream).expect("a reboot");
        assert_eq!(files.choose(&[], |_| false).expect("kept").public, upstream);
    }

    #[test]
    fn a_key_at_upstreams_place_that_is_another_nodes_stays_there() {
        let directory = tempfile::tempdir().expect("directory");
        let files = files(directory.path());
        let another = made(&files.upstream);
        let own = files.choose(&[], |_| false).expect("a new key").public;
        assert_ne!(own, another);
        assert_eq!(files.choose(&[own], |_| false).expect("the own key").public, own);
        assert_eq!(made(&files.upstream), another);
    }

    #[test]
    fn who_comes_back_from_upstream_goes_on_with_the_key_that_peers_know() {
        let directory = tempfile::tempdir().expect("directory");
        let files = files(directory.path());
        let before = files.choose(&[], |_| false).expect("a key").public;
        let upstreams = made(&files.upstream);
        // The lease comes before the device.
        assert_eq!(files.choose(&[before, upstreams], |_| false).expect("the lease's").public, before);
        assert_eq!(files.choose(&[upstreams, before], |_| false).expect("the lease's").public, upstreams);
    }

    #[test]
    fn the_operators_file_counts_alone() {
        let directory = tempfile::tempdir().expect("directory");
        let named = Some(directory.path().join("named"));
        let files = KeyFiles { named, ..files(directory.path()) };
        let upstream = made(&files.upstream);
        assert!(!files.is_undecided());
        assert_ne!(files.choose(&[upstream], |_| false).expect("a key").public, upstream);
        assert!(!files.own.exists());
    }

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("mode");
    }

    #[test]
    fn a_key_that_another_user_can_have_put_there_is_not_taken() {
        let directory = tempfile::tempdir().expect("directory");
        let files = files(directory.path());
        let own = files.choose(&[], |_| false).expect("a key").public;
        let state = directory.path().join("state");
        for (path, wrong, right) in [(&files.own, 0o420, 0o400), (&state, 0o777, 0o755)] {
            mode(path, wrong);
            let error = files.choose(&[], |_| false).expect_err("refused");
            let remedy = format!("mode {wrong:o}): `chmod go-w {}`", path.display());
            assert!(error.contains("wgkey") && error.ends_with(&remedy), "{error}");
            mode(path, right);
            assert_eq!(files.choose(&[], |_| false).expect("taken").public, own);
        }
        // Nor is one made there, and upstream's is not taken over.
        std::fs::remove_file(&files.own).expect("removed");
        mode(&state, 0o777);
        assert!(files.choose(&[], |_| false).expect_err("refused").contains("can be written by other users"));
        mode(&state, 0o755);
        let upstream = made(&files.upstream);
        mode(&files.upstream, 0o644 | 0o022);
        assert_ne!(files.choose(&[upstream], |_| false).expect("a new one").public, upstream);
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_repeated() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("wgkey");
        for wrong in ["", "c2VjcmV0", "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo", "!"] {
            std::fs::write(&file, wrong).expect("written");
            mode(&file, 0o600);
            let error = load_or_make(&file).expect_err("no key");
            assert!(error.contains("wgkey") && error.contains("base64 of 32 bytes"), "{error}");
            assert!(wrong.len() < 2 || !error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let directory = tempfile::tempdir().expect("directory");
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .expect("a FIFO");
        let large = directory.path().join("large");
        std::fs::write(&large, [b'x'; 5000]).expect("written");
        mode(&large, 0o600);
        for (file, reason) in
            [(&fifo, "no regular file"), (&large, "too large"), (&directory.path().into(), "no regular file")]
        {
            let error = load_or_make(file).expect_err("no key");
            assert!(error.contains(reason), "{error}");
        }
    }
}
