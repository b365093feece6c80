//! Compiled code, kept in the cache directory from one start to the next, and mapped from there.
//!
//! Whoever can write such a file says what the daemon does. So it is read only from a directory in which nobody else can have put it, and
//! only if it carries a code that was made with a key of the state directory, over the code and the component that it was made of: a
//! cache that was copied, shared, or restored from elsewhere is worth nothing.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use flannel_base::trusted_dir::TrustedDir;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tracing::{debug, warn};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::digest::{DIGEST, Digest};

/// The file with the key, in the state directory, and its bytes.
const KEY_FILE: &str = "cache-key";
const KEY: usize = 32;
/// What is authenticated is what is meant by this version of the file's form.
const PURPOSE: &[u8] = b"flanneld compiled plugin, form 2";
/// Bytes behind the code: the component's digest, and the code by which it is authenticated.
const TRAILER: u64 = 2 * DIGEST as u64;
/// Bytes of all components and their code in the cache directory together; what was not used for longest goes first. What is known of tags
/// and signatures is small, and stays.
const MAX_CACHE_BYTES: u64 = 1 << 30;

/// Where code is kept.
#[derive(Clone, Debug)]
pub(crate) struct CodeCache {
    directory: PathBuf,
    key_directory: PathBuf,
}

/// The cache, opened and found in order.
struct Opened {
    directory: TrustedDir,
    key: [u8; KEY],
}

impl CodeCache {
    /// In this directory, with the key in that one. Both are made when they are needed first.
    pub(crate) fn new(directory: &Path, key_directory: &Path) -> Self {
        Self { directory: directory.to_owned(), key_directory: key_directory.to_owned() }
    }

    /// The cache directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The code of a component, if it is there. Whatever is wrong with it, it is compiled again.
    pub(crate) fn load(&self, engine: &Engine, component: &Digest) -> Option<Component> {
        let opened = match self.open(false) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(%error, "compiled plugins are not taken from the cache");
                return None;
            }
        };
        let name = opened.name(component);
        let mut file = match opened.directory.open_file(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(%error, "a compiled plugin is not taken from the cache");
                return None;
            }
        };
        match opened.is_authentic(&mut file, component) {
            Ok(true) => {}
            Ok(false) => {
                warn!(file = %self.directory.join(&name).display(), "a compiled plugin in the cache is not what was put there: compiling again");
                return None;
            }
            Err(error) => {
                warn!(file = %self.directory.join(&name).display(), %error, "a compiled plugin in the cache cannot be read: compiling again");
                return None;
            }
        }
        match map(engine, &file) {
            Ok(component) => {
                let _ = opened.directory.touch(&name);
                Some(component)
            }
            Err(error) => {
                debug!(%error, "a compiled plugin does not fit this build: compiling again");
                None
            }
        }
    }

    /// Maps code that has just been compiled; from the cache directory, if it can be kept there.
    pub(crate) fn take(
        &self,
        engine: &Engine,
        component: &Digest,
        code: &File,
    ) -> wasmtime::Result<Component> {
        match self.keep(component, code) {
            Ok(kept) => map(engine, &kept),
            Err(error) => {
                let directory = self.directory.display();
                warn!(%directory, %error, "the compiled plugin cannot be cached: it is compiled again at the next start");
                map(engine, code)
            }
        }
    }

    fn keep(&self, component: &Digest, code: &File) -> io::Result<File> {
        let opened = self.open(true)?;
        let mut code = code.try_clone()?;
        code.seek(SeekFrom::Start(0))?;
        let kept = opened.directory.replace(&opened.name(component), |file| {
            let mut mac = opened.mac();
            copy_through(&mut code, file, &mut mac)?;
            mac.update(component.as_bytes());
            file.write_all(component.as_bytes())?;
            file.write_all(&mac.finalize().into_bytes())
        })?;
        trim(&opened.directory, &opened.name(component), MAX_CACHE_BYTES);
        Ok(kept)
    }

    fn open(&self, make: bool) -> io::Result<Opened> {
        if make {
            let key = key(&TrustedDir::make(&self.key_directory)?)?;
            return Ok(Opened { directory: TrustedDir::make(&self.directory)?, key });
        }
        let directory = TrustedDir::open(&self.directory)?;
        let key = read_key(&TrustedDir::open(&self.key_directory)?)?;
        Ok(Opened { directory, key })
    }
}

impl Opened {
    /// A name for each key: daemons with state directories of their own may share a cache directory.
    fn name(&self, component: &Digest) -> String {
        let of_key = Digest::of(&[PURPOSE, &self.key].concat()).hex();
        format!("{}-{}.cwasm", component.hex(), &of_key[..8])
    }

    fn mac(&self) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key)
            .unwrap_or_else(|_| unreachable!("any length is a key's"));
        mac.update(PURPOSE);
        mac
    }

    fn is_authentic(&self, file: &mut File, component: &Digest) -> io::Result<bool> {
        let Some(bytes) = file.metadata()?.len().checked_sub(TRAILER) else { return Ok(false) };
        let mut mac = self.mac();
        copy_through(&mut file.take(bytes), &mut io::sink(), &mut mac)?;
        let (mut made_of, mut tag) = ([0; DIGEST], [0; DIGEST]);
        file.read_exact(&mut made_of)?;
        file.read_exact(&mut tag)?;
        mac.update(&made_of);
        Ok(made_of == *component.as_bytes() && mac.verify_slice(&tag).is_ok())
    }
}

/// Copies all that can be read, and takes it into account.
fn copy_through(from: &mut impl Read, to: &mut impl io::Write, mac: &mut Hmac<Sha256>) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut buffer)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { return Ok(()) };
        mac.update(part);
        to.write_all(part)?;
    }
}

/// Maps code, so that it costs memory only where it is used, and no more than once. From a file system that is mounted `noexec` nothing is
/// mapped to be run: there it is read.
fn map(engine: &Engine, code: &File) -> wasmtime::Result<Component> {
    let path = format!("/proc/self/fd/{}", code.as_raw_fd());
    // SAFETY: the code is what wasmtime made: it has been compiled just now, or it was authenticated with a key that only this user can
    // read, in a file that only this user can write and that is never written in place. wasmtime itself checks its version and settings.
    unsafe { Component::deserialize_file(engine, path) }.or_else(|_| {
        let (mut code, mut bytes) = (code.try_clone()?, Vec::new());
        code.seek(SeekFrom::Start(0))?;
        code.read_to_end(&mut bytes)?;
        // SAFETY: as above.
        unsafe { Component::deserialize(engine, bytes) }
    })
}

/// The key, which is made if there is none yet. Of two that make one at the same time, both have the one that came first.
fn key(directory: &TrustedDir) -> io::Result<[u8; KEY]> {
    match read_key(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        outcome => return outcome,
    }
    let mut made = [0; KEY];
    getrandom::fill(&mut made).map_err(io::Error::other)?;
    match directory.create(KEY_FILE, |file| file.write_all(&made)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read_key(directory),
    }
}

fn read_key(directory: &TrustedDir) -> io::Result<[u8; KEY]> {
    let bytes = directory.read(KEY_FILE, KEY as u64)?;
    bytes.try_into().map_err(|_| {
        let path = directory.path().join(KEY_FILE);
        io::Error::other(format!(
            "{}: it has not the {KEY} bytes of a key; remove it, and a new one is made",
            path.display()
        ))
    })
}

/// Removes what was not used for longest until the rest is small enough; what has just come stays.
fn trim(directory: &TrustedDir, newest: &str, most: u64) {
    let Ok(mut files) = directory.files() else { return };
    files.retain(|file| match file.name.rsplit_once('.') {
        // Before the dot of a file that is being written, or never was complete, there is another one.
        Some((stem, ending)) => stem.starts_with('.') || matches!(ending, "wasm" | "cwasm"),
        None => false,
    });
    let mut total: u64 = files.iter().map(|file| file.bytes).sum();
    files.sort_by_key(|file| file.used);
    for file in files.iter().filter(|file| file.name != newest) {
        if total <= most {
            break;
        }
        if directory.remove(&file.name).is_ok() {
            debug!(file = file.name, "removed from the cache, which is full");
            total -= file.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::compile::compile_here;
    use crate::engine;

    /// The smallest component: magic number, version and layer.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    struct Place {
        above: tempfile::TempDir,
        cache: CodeCache,
        engine: Engine,
        digest: Digest,
    }

    impl Place {
        /// A cache that has the component.
        fn filled() -> Self {
            let above = tempfile::tempdir().expect("directory");
            let cache = CodeCache::new(&above.path().join("cache"), &above.path().join("state"));
            let place = Self {
                cache,
                above,
                engine: engine::native().expect("engine"),
                digest: Digest::of(COMPONENT),
            };
            assert!(place.load().is_none(), "nothing is there yet");
            let code = compile_here(COMPONENT).expect("compiles");
            place.cache.take(&place.engine, &place.digest, &code).expect("mapped");
            place
        }

        fn load(&self) -> Option<Component> {
            self.cache.load(&self.engine, &self.digest)
        }

        fn file(&self) -> PathBuf {
            let mut files = self.above.path().join("cache").read_dir().expect("listed");
            files.next().expect("a file").expect("read").path()
        }
    }

    #[test]
    fn a_component_is_compiled_once() {
        assert!(Place::filled().load().is_some());
    }

    #[test]
    fn what_was_changed_or_is_of_another_component_is_not_run() {
        let place = Place::filled();
        let whole = std::fs::read(place.file()).expect("read");
        for position in [0, whole.len() / 2, whole.len() - 64, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[position] ^= 1;
            std::fs::write(place.file(), damaged).expect("written");
            assert!(place.load().is_none(), "byte {position}");
        }
        for length in [0, 63, 64, whole.len() - 1] {
            std::fs::write(place.file(), &whole[..length]).expect("written");
            assert!(place.load().is_none(), "{length} bytes");
        }
        let other = Digest::of(b"another");
        let name = place
            .file()
            .file_name()
            .expect("name")
            .to_string_lossy()
            .replace(&place.digest.hex(), &other.hex());
        std::fs::write(place.file(), &whole).expect("written");
        assert!(place.load().is_some());
        std::fs::rename(place.file(), place.file().with_file_name(name)).expect("renamed");
        assert!(place.cache.load(&place.engine, &other).is_none(), "under another component's name");
    }

    #[test]
    fn what_was_made_with_another_key_is_not_run() {
        let place = Place::filled();
        let elsewhere = Place::filled();
        let name = place.file();
        std::fs::copy(elsewhere.file(), &name).expect("copied");
        assert!(place.load().is_none());
    }

    #[test]
    fn what_others_could_have_put_there_is_not_run() {
        let place = Place::filled();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("mode");
        };
        for (path, wrong, right) in [
            (place.file(), 0o666, 0o600),
            (place.above.path().join("cache"), 0o777, 0o700),
            (place.above.path().join("state"), 0o770, 0o700),
            (place.above.path().join("state/cache-key"), 0o622, 0o600),
            (place.above.path().to_owned(), 0o777, 0o700),
        ] {
            mode(&path, wrong);
            assert!(place.load().is_none(), "{} with {wrong:o}", path.display());
            mode(&path, right);
            assert!(place.load().is_some(), "{}", path.display());
        }
    }

    #[test]
    fn a_cache_that_cannot_be_used_costs_a_compilation_and_nothing_else() {
        let place = Place::filled();
        std::fs::set_permissions(place.above.path(), Permissions::from_mode(0o777)).expect("mode");
        let before = std::fs::read(place.file()).expect("read");
        let code = compile_here(COMPONENT).expect("compiles");
        place.cache.take(&place.engine, &place.digest, &code).expect("mapped all the same");
        assert_eq!(std::fs::read(place.file()).expect("read"), before);
    }

    #[test]
    fn what_was_not_used_for_longest_goes_when_there_is_too_much() {
        let above = tempfile::tempdir().expect("directory");
        let directory = TrustedDir::open(above.path()).expect("trusted");
        for name in ["old.wasm", "used.wasm", "new.cwasm", "tag.json"] {
            directory.create(name, |file| file.write_all(&[0; 10])).expect("written");
            let past = File::options().append(true).open(above.path().join(name)).expect("opened");
            past.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("set");
        }
        directory.touch("used.wasm").expect("touched");
        trim(&directory, "new.cwasm", 25);
        let mut left: Vec<String> =
            directory.files().expect("listed").into_iter().map(|file| file.name).collect();
        left.sort();
        assert_eq!(left, ["new.cwasm", "tag.json", "used.wasm"]);
    }
}
