//! The Kubernetes control plane that tests run: etcd, kube-apiserver and kube-controller-manager in one program, of `tests/control-plane/`.
//! Compiling it takes some ten minutes on two processors, so that is done once a machine, for all clones of this project, and outlives
//! `cargo clean`.
//!
//! Where it cannot be had, one line says so, and a file beside the missing program says it to the tests.

mod go;

use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::cargo::{root, target};
use go::Go;

/// What it is made of.
const SOURCES: [&str; 3] = ["go.mod", "go.sum", "main.go"];

/// What the API server answers to `/version`: it has nothing to take that from but the command line that links it.
const VERSION: [(&str, &str); 4] =
    [("gitVersion", "v1.36.3"), ("gitMajor", "1"), ("gitMinor", "36"), ("gitTreeState", "clean")];

/// Where the tests look for it: a link to the program.
pub fn place() -> PathBuf {
    target().join("tools/control-plane")
}

/// Makes sure that it is there, and prints where.
pub fn print() -> Result<()> {
    println!("{}", built()?.display());
    Ok(())
}

/// Makes sure that it is there, or that the tests know why it is not.
pub fn install() -> Result<()> {
    let skipped = place().with_extension("skipped");
    if let Err(missing) = built() {
        eprintln!("skipped: tests with a Kubernetes control plane: {missing:#}");
        remove(&place())?;
        return Ok(std::fs::write(skipped, format!("{missing:#}"))?);
    }
    remove(&skipped)
}

/// The program, built if this machine has none that is made of the same; the tests' link leads to it.
fn built() -> Result<PathBuf> {
    std::fs::create_dir_all(target().join("tools"))?;
    let cache = cache();
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    // Two builds at once would take twice as long, and more memory than many machines have.
    let lock = cache.join("control-plane.lock");
    let lock = File::create(&lock).with_context(|| format!("cannot write {}", lock.display()))?;
    lock.lock().context("cannot wait for another build of the control plane")?;

    let go = Go::choose();
    let program = cache.join(format!("control-plane-{}", key(&go)?));
    if !program.is_file() {
        eprintln!("setup: building a Kubernetes control plane, once: ten minutes on two processors");
        // Nobody finds half a program, should this be interrupted.
        let half = cache.join("control-plane.new");
        go.build(&root().join("tests/control-plane"), &linker_flags(), &half)
            .context("the Kubernetes control plane cannot be built")?;
        std::fs::rename(&half, &program).with_context(|| program.display().to_string())?;
    }
    if std::fs::read_link(place()).ok().as_ref() != Some(&program) {
        remove(&place())?;
        std::os::unix::fs::symlink(&program, place()).context("a link to the control plane")?;
    }
    Ok(program)
}

/// Where what is kept for all clones is, by the rules of freedesktop.org; below `target/` for who has no home.
fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || set("HOME").map(|home| home.join(".cache"));
    set("XDG_CACHE_HOME").or_else(home).unwrap_or_else(|| target().join("tools")).join("flanneld")
}

/// What stands for all that the program depends on.
fn key(go: &Go) -> Result<String> {
    let mut hash = Sha256::new();
    for name in SOURCES {
        let file = root().join("tests/control-plane").join(name);
        let content = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        hash.update(content.len().to_le_bytes());
        hash.update(content);
    }
    for word in [go.version(), &linker_flags().to_string_lossy(), std::env::consts::ARCH] {
        hash.update(word);
        hash.update([0]);
    }
    let hash: [u8; 32] = hash.finalize().into();
    Ok(hash[..8].iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
}

fn linker_flags() -> OsString {
    let version = VERSION.map(|(name, value)| format!(" -X k8s.io/component-base/version.{name}={value}"));
    // Without symbols and debugging information.
    format!("-s -w{}", version.concat()).into()
}

fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}
