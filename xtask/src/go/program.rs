//! Programs in Go that tests run, each made of a module of this project. Compiling one takes minutes, so that is done once a machine, for all
//! clones of this project, and outlives `cargo clean`.
//!
//! Where one cannot be had, one line says so, and a file beside the missing program says it to the tests.

use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::Go;
use crate::cargo::{root, target};

/// A program, or a directory of several.
pub struct Program {
    /// What it is called, where it is kept, and below `target/tools/`.
    pub name: &'static str,
    /// What it is, for people.
    pub what: &'static str,
    /// How long compiling it takes, for people.
    pub time: &'static str,
    /// What of the module is compiled: `.`, or `tool` for a directory of several.
    pub packages: &'static str,
    /// The files that it is made of, below `tests/NAME/`.
    pub sources: &'static [&'static str],
    /// What the linker sets: variables of a package, each with its value.
    pub variables: &'static [(&'static str, &'static str)],
    /// Whether parts of it are in C.
    pub with_c: bool,
}

impl Program {
    /// Where the tests look for it: a link to where it is kept.
    pub fn place(&self) -> PathBuf {
        target().join("tools").join(self.name)
    }

    /// Makes sure that it is there, or that the tests know why it is not.
    pub fn install(&self) -> Result<()> {
        match self.built() {
            Ok(_) => self.is_there(),
            Err(missing) => self.is_missing(&missing),
        }
    }

    /// Has the tests know that it is there.
    pub fn is_there(&self) -> Result<()> {
        remove(&self.place().with_extension("skipped"))
    }

    /// Has the tests know why it is not there.
    pub fn is_missing(&self, why: &anyhow::Error) -> Result<()> {
        eprintln!("skipped: tests with {}: {why:#}", self.what);
        remove(&self.place())?;
        Ok(std::fs::write(self.place().with_extension("skipped"), format!("{why:#}"))?)
    }

    /// Whether this machine has it already.
    pub fn is_built(&self) -> Result<bool> {
        Ok(cache().join(format!("{}-{}", self.name, self.key(&Go::choose())?)).exists())
    }

    /// The program, built if this machine has none that is made of the same; the tests' link leads to it.
    pub fn built(&self) -> Result<PathBuf> {
        std::fs::create_dir_all(target().join("tools"))?;
        let cache = cache();
        std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
        // Two builds at once would take twice as long, and more memory than many machines have.
        let lock = cache.join(self.name).with_extension("lock");
        let lock = File::create(&lock).with_context(|| format!("cannot write {}", lock.display()))?;
        lock.lock().with_context(|| format!("cannot wait for another build of {}", self.what))?;

        let go = Go::choose();
        let program = cache.join(format!("{}-{}", self.name, self.key(&go)?));
        if !program.exists() {
            self.build(&go, &cache, &program)?;
        }
        if std::fs::read_link(self.place()).ok().as_ref() != Some(&program) {
            remove(&self.place())?;
            std::os::unix::fs::symlink(&program, self.place())
                .with_context(|| format!("a link to {}", self.what))?;
        }
        Ok(program)
    }

    fn build(&self, go: &Go, cache: &Path, program: &Path) -> Result<()> {
        eprintln!("setup: building {}, once: {} on two processors", self.what, self.time);
        // Nobody finds half a program, should this be interrupted.
        let half = cache.join(self.name).with_extension("new");
        if self.packages == "tool" {
            std::fs::create_dir_all(&half).with_context(|| format!("cannot make {}", half.display()))?;
        }
        go.build(&self.module(), self.packages, &self.linker_flags(), self.with_c, &half)
            .with_context(|| format!("{} cannot be built", self.what))?;
        std::fs::rename(&half, program).with_context(|| program.display().to_string())
    }

    fn module(&self) -> PathBuf {
        root().join("tests").join(self.name)
    }

    /// What stands for all that the program depends on.
    fn key(&self, go: &Go) -> Result<String> {
        let mut hash = Sha256::new();
        for name in self.sources {
            let file = self.module().join(name);
            let content = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            hash.update(content.len().to_le_bytes());
            hash.update(content);
        }
        for word in [go.version(), &self.linker_flags().to_string_lossy(), std::env::consts::ARCH] {
            hash.update(word);
            hash.update([0]);
        }
        let hash: [u8; 32] = hash.finalize().into();
        Ok(hash[..8].iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
    }

    fn linker_flags(&self) -> OsString {
        let variables = self.variables.iter().map(|(name, value)| format!(" -X {name}={value}"));
        // Without symbols and debugging information.
        format!("-s -w{}", variables.collect::<String>()).into()
    }
}

/// Where what is kept for all clones is, by the rules of freedesktop.org; below `target/` for who has no home.
fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || set("HOME").map(|home| home.join(".cache"));
    set("XDG_CACHE_HOME").or_else(home).unwrap_or_else(|| target().join("tools")).join("flanneld")
}

fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}
