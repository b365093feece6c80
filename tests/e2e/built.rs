//! Components in other languages than Rust, as `cargo xtask languages` has built them.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flannel_lab::{artifacts, share_cache_key};

/// A component that was built, and where its compiled form is kept: an interpreter takes ten seconds to compile, which are spent
/// once, and not by each node.
pub(crate) struct Built {
    pub(crate) component: PathBuf,
    pub(crate) cache: PathBuf,
    /// Where the key of the cache is.
    state: PathBuf,
}

impl Built {
    /// None, with the reason on standard output: its toolchain is missing.
    pub(crate) fn find(name: &str) -> Result<Option<Self>> {
        let directory =
            artifacts::components().canonicalize().context("build them first: cargo xtask languages")?;
        let component = directory.join(name).with_extension("wasm");
        if let Ok(reason) = std::fs::read_to_string(component.with_extension("skipped")) {
            flannel_test_support::skip(&reason);
            return Ok(None);
        }
        ensure!(component.is_file(), "{name}.wasm is not there; build it first: cargo xtask languages");
        let (cache, state) = (directory.join("cache"), directory.join("state"));
        std::fs::create_dir_all(&state).with_context(|| state.display().to_string())?;
        // One test compiles, and the others wait for it.
        let lock = directory.join("cache.lock");
        let lock = File::create(&lock).with_context(|| lock.display().to_string())?;
        lock.lock().context("cannot lock the cache")?;
        share_cache_key(&state)?;
        let built = Self { component, cache, state };
        let output = built.plugin("inspect")?.output().context("cannot run flanneld plugin inspect")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(Some(built))
    }

    /// A command about the component, which finds its compiled form where the nodes do.
    pub(crate) fn plugin(&self, command: &str) -> Result<Command> {
        let mut flanneld = Command::new(artifacts::flanneld()?);
        flanneld.args(["plugin", command]).arg(&self.component);
        flanneld.env("FLANNELD_CACHE_DIR", &self.cache).env("FLANNELD_STATE_DIR", &self.state);
        Ok(flanneld)
    }
}
