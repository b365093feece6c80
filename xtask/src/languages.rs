//! Backends in other languages than Rust: `sdk/<language>/example/` becomes `target/components/<language>-host-gw.wasm`, in a copy
//! below `target/languages/` and with the commands that authors use. The tests' own components, which are a policy's file with what goes with
//! it in `tests/<language>/<name>/`, are laid over that language's example and built like it.
//!
//! Where a toolchain cannot be had, one line says so, and a file beside the missing component says it to the tests.

mod bench;
pub(crate) mod node;
mod zig;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::build;
use crate::cargo::{root, run, target};
use crate::go::Go;
use crate::{pinned, setup};
pub use bench::run_it as bench;

/// A language that examples are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Python,
    Js,
    C,
    Cpp,
    Go,
    Zig,
}

/// What all examples are called.
const EXAMPLE: &str = "example-host-gw";

/// A component to be built.
struct Project {
    language: Language,
    /// The component's name in `target/components/`.
    name: String,
    /// What is laid over the language's example.
    overlay: Option<PathBuf>,
}

/// Builds all components whose sources or pins have changed.
pub fn build() -> Result<()> {
    for project in projects()? {
        project.build().with_context(|| format!("cannot build {}", project.name))?;
    }
    Ok(())
}

fn projects() -> Result<Vec<Project>> {
    let examples = [Language::Python, Language::Js, Language::C, Language::Cpp, Language::Go, Language::Zig];
    let mut all: Vec<Project> = examples
        .into_iter()
        .map(|language| Project { language, name: format!("{}-host-gw", language.folder()), overlay: None })
        .collect();
    for language in examples {
        let folder = root().join("tests").join(language.folder());
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
        {
            let path = entry?.path();
            if let Some(name) = path.file_name().and_then(|name| name.to_str())
                && path.join(language.policy()).is_file()
            {
                let name = name.to_owned();
                all.push(Project { language, name, overlay: Some(path) });
            }
        }
    }
    Ok(all)
}

impl Language {
    /// Its directory in `sdk/`.
    fn folder(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Js => "js",
            Self::C => "c",
            Self::Cpp => "cpp",
            Self::Go => "go",
            Self::Zig => "zig",
        }
    }

    /// The file of its example that the policy is in.
    fn policy(self) -> &'static str {
        match self {
            Self::Python => "policy.py",
            Self::Js => "policy.js",
            Self::C => "policy.c",
            Self::Cpp => "policy.cpp",
            Self::Go => "policy.go",
            Self::Zig => "policy.zig",
        }
    }

    /// Makes sure that its toolchain is there. The error says what is missing, and how to get it.
    fn prepare(self, copy: &Path) -> Result<()> {
        match self {
            Self::Python => {
                let (tools, requirements) = (tools(self), copy.join("requirements.txt"));
                pinned::fetched(&tools, &requirements, || setup::environment(&tools, &requirements))
                    .context("Python components need componentize-py from PyPI")
            }
            Self::Js => node::packages(&tools(self), copy),
            Self::C | Self::Cpp => {
                setup::programs(&[("clang", "clang"), ("wasm-ld", "lld"), ("make", "make")])
            }
            Self::Go => Go::choose().path().map(drop),
            Self::Zig => zig::prepare(&tools(self)),
        }
    }

    /// Where a build finds the toolchain, and the daemon.
    fn environment(self, shell: &mut Command) -> Result<()> {
        let mut path = match self {
            Self::Js => node::path()?,
            Self::Go => Go::choose().path()?,
            Self::Zig => zig::path(&tools(self))?,
            Self::Python | Self::C | Self::Cpp => std::env::var_os("PATH").unwrap_or_default(),
        };
        path.push(":");
        path.push(daemon()?.parent().unwrap_or(Path::new("/")));
        shell.env("PATH", path).env("TOOLS", tools(self));
        shell.env("GOTOOLCHAIN", "local").env("GOWORK", "off").env_remove("GOFLAGS");
        Ok(())
    }

    /// Builds a component with a toolchain that is there, as its README says; answers where it is.
    fn compile(self, copy: &Path) -> Result<PathBuf> {
        let readme = copy.join("README.md");
        let readme = std::fs::read_to_string(&readme).with_context(|| readme.display().to_string())?;
        for command in first_commands(&readme) {
            // `prepare` has done it, unless it was done before.
            if self == Self::Js && command.starts_with("npm ci") {
                continue;
            }
            let mut sh = Command::new("sh");
            sh.args(["-c", command]).current_dir(copy).env("MAKEFLAGS", "--always-make");
            self.environment(&mut sh)?;
            run(&mut sh)?;
        }
        Ok(copy.join(EXAMPLE).with_extension("wasm"))
    }
}

/// The first of a README's blocks of commands.
fn first_commands(readme: &str) -> impl Iterator<Item = &str> {
    let lines = readme.lines().map(|line| line.strip_prefix("    "));
    lines.skip_while(Option::is_none).map_while(|line| line)
}

/// The daemon, which makes components of modules.
fn daemon() -> Result<PathBuf> {
    let daemon = build::daemon();
    if !daemon.is_file() {
        build::all()?;
    }
    Ok(daemon)
}

/// What all components of a language share.
fn tools(language: Language) -> PathBuf {
    target().join("tools").join(language.folder())
}

impl Project {
    fn build(&self) -> Result<()> {
        let example = root().join("sdk").join(self.language.folder()).join("example");
        let component = target().join("components").join(&self.name).with_extension("wasm");
        let (made_of, skipped) = (component.with_extension("sources"), component.with_extension("skipped"));
        let sources: Vec<&Path> = std::iter::once(example.as_path()).chain(self.overlay.as_deref()).collect();
        let digest = digest(&sources)?;
        if component.is_file() && std::fs::read_to_string(&made_of).is_ok_and(|before| before == digest) {
            return Ok(());
        }
        let copy = target().join("languages").join(&self.name);
        // What has gone from the sources goes there, too; but not what toolchains have put there.
        for folder in ["wit", "bindings"] {
            let _ = std::fs::remove_dir_all(copy.join(folder));
        }
        for source in sources {
            copy_over(source, &copy)?;
        }
        for stale in [&component, &made_of, &skipped] {
            remove(stale)?;
        }
        // Compiled forms that tests keep, some 35 MB each.
        let _ = std::fs::remove_dir_all(target().join("components/cache"));
        std::fs::create_dir_all(target().join("components"))?;
        if let Err(missing) = self.language.prepare(&copy) {
            eprintln!("skipped: {}: {missing:#}", self.name);
            return Ok(std::fs::write(skipped, format!("{missing:#}"))?);
        }
        let built = self.language.compile(&copy)?;
        std::fs::rename(&built, &component).with_context(|| format!("{} was not built", built.display()))?;
        eprintln!("{}: {} bytes", self.name, std::fs::metadata(&component)?.len());
        Ok(std::fs::write(made_of, digest)?)
    }
}

fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// All files below a directory, with their paths in it, in order; where links lead to counts. What builds in the directory leave
/// behind does not.
fn files(directory: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(inside) = waiting.pop() {
        let full = directory.join(&inside);
        for entry in std::fs::read_dir(&full).with_context(|| format!("cannot list {}", full.display()))? {
            let name = entry?.file_name();
            let (inside, full) = (inside.join(&name), full.join(&name));
            if full.is_dir() {
                if !LEFT_BEHIND.iter().any(|left| name == *left) {
                    waiting.push(inside);
                }
            } else if full.extension().is_none_or(|extension| extension != "wasm" && extension != "o") {
                found.push((inside, full));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Directories that builds make, as in `.gitignore`.
const LEFT_BEHIND: [&str; 3] = ["node_modules", ".tools", "__pycache__"];

const COMPONENTIZE: &str = concat!(
    include_str!("../../host/flanneld/src/commands/componentize/mod.rs"),
    include_str!("../../host/flanneld/src/commands/componentize/adapter.rs")
);

pub(crate) fn copy_over(from: &Path, to: &Path) -> Result<()> {
    for (inside, full) in files(from)? {
        let copy = to.join(inside);
        if let Some(directory) = copy.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::copy(&full, &copy).with_context(|| format!("cannot copy {}", full.display()))?;
    }
    Ok(())
}

/// Of all that a component is made of: sources, contract, pins, and how the daemon makes components.
fn digest(directories: &[&Path]) -> Result<String> {
    let mut hash = Sha256::new_with_prefix(COMPONENTIZE);
    for directory in directories {
        for (inside, full) in files(directory)? {
            let content = std::fs::read(&full).with_context(|| format!("cannot read {}", full.display()))?;
            hash.update(inside.as_os_str().as_encoded_bytes());
            hash.update(content.len().to_le_bytes());
            hash.update(content);
        }
    }
    let hash: [u8; 32] = hash.finalize().into();
    Ok(hash.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
}
