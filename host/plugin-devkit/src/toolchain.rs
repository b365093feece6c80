//! What a language takes to be built: which programs, and whether they are on this machine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Something that a language's projects are built with.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// A program that is looked for in `PATH`, or [`RUST_FOR_WASM`].
    pub name: &'static str,
    /// Which version it has to be, and where it comes from.
    pub hint: &'static str,
}

/// Rust's standard library for components, which is no program.
pub const RUST_FOR_WASM: &str = "wasm32-unknown-unknown";

impl Tool {
    /// Where it is, if it is there. Which version it has is not asked.
    pub fn find(self) -> Option<PathBuf> {
        if self.name == RUST_FOR_WASM { rust_target(self.name) } else { in_path(self.name) }
    }
}

/// A tool, and whether it was found.
impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.find() {
            Some(place) => write!(f, "{}: {}", self.name, place.display()),
            None => write!(f, "{}: MISSING ({})", self.name, self.hint),
        }
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Where rustup and distributions put it: beside the standard library of the machine itself.
fn rust_target(target: &str) -> Option<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let sysroot = String::from_utf8(output.stdout).ok()?;
    Some(Path::new(sysroot.trim()).join("lib/rustlib").join(target)).filter(|place| place.is_dir())
}
