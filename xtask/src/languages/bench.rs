//! `cargo xtask bench languages`: what a plugin costs in each language, from an author's edit to a lease. Of what `flanneld plugin new` writes,
//! built as its README says.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde::{Deserialize, Serialize};

use super::{EXAMPLE, Language, daemon};
use crate::cargo::{output, root, run, target};
use crate::setup::{self, WasmToolchain};

/// What is asked for.
#[derive(Parser)]
#[command(name = "cargo xtask bench languages", bin_name = "cargo xtask bench languages")]
struct Options {
    /// Languages as `flanneld plugin new` calls them; all without
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Prints an array of figures in place of the table
    #[arg(long)]
    json: bool,
}

/// A language as it is measured.
struct Subject {
    /// As `plugin new` calls it.
    name: &'static str,
    title: &'static str,
    toolchain: &'static str,
    /// None: Rust, whose plugins are not built as those of the other languages.
    language: Option<Language>,
    /// The file that an author edits.
    policy: &'static str,
    /// What `flanneld plugin dev` would build it with.
    build: &'static str,
}

const fn subject(
    name: &'static str,
    title: &'static str,
    toolchain: &'static str,
    language: Option<Language>,
    policy: &'static str,
) -> Subject {
    Subject { name, title, toolchain, language, policy, build: "./build.sh" }
}

const SUBJECTS: [Subject; 7] = [
    subject("rust", "Rust", "cargo", None, "src/lib.rs"),
    subject("go", "Go", "go", Some(Language::Go), "policy.go"),
    subject("zig", "Zig", "zig", Some(Language::Zig), "policy.zig"),
    Subject { build: "make", ..subject("c", "C", "clang, lld", Some(Language::C), "policy.c") },
    Subject { build: "make", ..subject("cpp", "C++", "clang, lld", Some(Language::Cpp), "policy.cpp") },
    subject("python", "Python", "componentize-py", Some(Language::Python), "policy.py"),
    Subject {
        build: "npm run --silent build",
        ..subject("js", "JavaScript", "componentize-js", Some(Language::Js), "policy.js")
    },
];

/// What came of it. Times in nanoseconds.
#[derive(Serialize)]
struct Figures {
    language: &'static str,
    toolchain: &'static str,
    /// Bytes.
    size: u64,
    first_load_ns: u64,
    later_load_ns: u64,
    /// A call with one lease.
    call_ns: u64,
    /// Each of 1,000 leases in a call.
    lease_ns: u64,
    /// Bytes of the instance after that.
    memory: u64,
    /// From a change of the policy's file until it is built and has passed `plugin check --quick`.
    edit_ns: u64,
}

/// What `flanneld plugin bench --json` says.
#[derive(Deserialize)]
struct Cost {
    call_ns: u64,
    lease_ns: u64,
    memory: u64,
}

/// Measures all, or those that are named.
pub fn run_it(arguments: &[std::ffi::OsString]) -> Result<()> {
    let options = Options::parse_from(arguments);
    if let Some(unknown) = options.only.iter().find(|name| !SUBJECTS.iter().any(|one| one.name == **name)) {
        let names: Vec<&str> = SUBJECTS.iter().map(|subject| subject.name).collect();
        bail!("--only: there is no language {unknown:?}; there are: {}", names.join(", "));
    }
    crate::build::with(crate::plugins::Wanted::Plugins)?;
    let chosen = SUBJECTS
        .iter()
        .filter(|one| options.only.is_empty() || options.only.iter().any(|name| name == one.name));
    let mut all = Vec::new();
    for subject in chosen {
        all.push(subject.measure().with_context(|| format!("cannot measure {}", subject.title))?);
    }
    if options.json {
        println!("{}", serde_json::to_string(&all)?);
    } else {
        print!("{}", table(&all));
    }
    Ok(())
}

impl Subject {
    fn measure(&self) -> Result<Figures> {
        let place = target().join("bench-languages").join(self.name);
        if place.exists() {
            std::fs::remove_dir_all(&place).with_context(|| place.display().to_string())?;
        }
        std::fs::create_dir_all(place.parent().context("a directory")?)?;
        let mut new = Command::new(daemon()?);
        run(new.args(["plugin", "new", EXAMPLE, "--lang", self.name, "--dir"]).arg(&place))?;
        match self.language {
            Some(language) => language.prepare(&place)?,
            // The versions that have been built before.
            None => drop(std::fs::copy(root().join("Cargo.lock"), place.join("Cargo.lock"))?),
        }
        let cache = tempfile::tempdir()?;
        self.build(&place)?;
        let component = place.join(EXAMPLE).with_extension("wasm");
        let inspected = || timed(|| self.flanneld(cache.path(), "inspect", &component, &[]).map(drop));
        let first_load_ns = inspected()?;
        let later_load_ns = inspected()?.min(inspected()?).min(inspected()?);
        let costs =
            self.flanneld(cache.path(), "bench", &component, &["--count", "1", "--count", "1000", "--json"])?;
        let costs: Vec<Cost> = serde_json::from_str(&costs).context("flanneld plugin bench --json")?;
        let [one, thousand] = costs.as_slice() else { bail!("flanneld plugin bench --json: two figures") };
        let edit_ns = timed(|| {
            self.edit(&place)?;
            self.build(&place)?;
            self.flanneld(cache.path(), "check", &component, &["--quick"]).map(drop)
        })?;
        Ok(Figures {
            language: self.title,
            toolchain: self.toolchain,
            size: std::fs::metadata(&component).with_context(|| component.display().to_string())?.len(),
            first_load_ns,
            later_load_ns,
            call_ns: one.call_ns,
            lease_ns: thousand.lease_ns,
            memory: thousand.memory,
            edit_ns,
        })
    }

    fn build(&self, place: &Path) -> Result<()> {
        let mut sh = Command::new("sh");
        sh.args(["-c", self.build]).current_dir(place);
        match self.language {
            Some(language) => language.environment(&mut sh)?,
            None => rust(&mut sh)?,
        }
        run(sh.env("FLANNELD", daemon()?))
    }

    /// As one word of the code would change.
    fn edit(&self, place: &Path) -> Result<()> {
        let policy = place.join(self.policy);
        let text = std::fs::read_to_string(&policy).with_context(|| policy.display().to_string())?;
        ensure!(text.contains(" is not on the link"), "{} has no text to be changed", policy.display());
        let text = text.replacen(" is not on the link", " is not at the link", 1);
        std::fs::write(&policy, text).with_context(|| policy.display().to_string())
    }

    fn flanneld(&self, cache: &Path, command: &str, component: &Path, more: &[&str]) -> Result<String> {
        let mut flanneld = Command::new(daemon()?);
        flanneld.args(["plugin", command]).arg(component).args(more);
        flanneld.env("FLANNELD_CACHE_DIR", cache).env("FLANNELD_STATE_DIR", cache.join("state"));
        output(&mut flanneld).with_context(|| format!("{}: flanneld plugin {command}", self.title))
    }
}

/// What builds a project in Rust with the compiler that builds our own plugins, beside them.
fn rust(shell: &mut Command) -> Result<()> {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO") && text != "CARGO_HOME"
            || text.starts_with("RUST") && text != "RUSTUP_HOME"
        {
            shell.env_remove(&name);
        }
    }
    shell.env("CARGO_TARGET_DIR", target().join("wasm"));
    if let WasmToolchain::Debian = setup::wasm_toolchain()? {
        let path = std::env::var("PATH").unwrap_or_default();
        shell
            .env("PATH", format!("/usr/bin:{path}"))
            .env("RUSTC", "/usr/bin/rustc")
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort")
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "/usr/bin/wasm-ld");
    }
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let begin = Instant::now();
    work()?;
    Ok(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// As `docs/languages.md` has it.
fn table(all: &[Figures]) -> String {
    let mut text = String::from(
        "| | toolchain | size | first load; later | a call with one lease | each of 1,000 leases | memory | an edit, until it is checked |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for one in all {
        let cells = [
            one.language.to_owned(),
            one.toolchain.to_owned(),
            bytes(one.size),
            format!("{}; {}", time(one.first_load_ns), time(one.later_load_ns)),
            time(one.call_ns),
            time(one.lease_ns),
            bytes(one.memory),
            time(one.edit_ns),
        ];
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// Two or three digits are what such figures are good for.
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn time(nanoseconds: u64) -> String {
    let number = nanoseconds as f64;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..10_000 => format!("{:.1} µs", number / 1e3),
        10_000..1_000_000 => format!("{:.0} µs", number / 1e3),
        1_000_000..10_000_000 => format!("{:.1} ms", number / 1e6),
        10_000_000..1_000_000_000 => format!("{:.0} ms", number / 1e6),
        1_000_000_000..10_000_000_000 => format!("{:.1} s", number / 1e9),
        _ => format!("{:.0} s", number / 1e9),
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn bytes(count: u64) -> String {
    match count {
        0..1_000_000 => format!("{} KB", count / 1_000),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_people_read_them() {
        let times = [900, 6_700, 28_000, 1_700_000, 132_000_000, 9_000_000_000, 11_400_000_000].map(time);
        assert_eq!(times, ["900 ns", "6.7 µs", "28 µs", "1.7 ms", "132 ms", "9.0 s", "11 s"]);
        assert_eq!([47_123, 18_700_000].map(bytes), ["47 KB", "18.7 MB"]);
    }
}
