//! What strangers write, fed with what libFuzzer finds worth a try: `fuzz/README.md`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{cargo, root, run, target};
use crate::plugins::{self, Wanted};
use crate::setup;
use crate::tools::{self, Tool};

/// A version that knows the options below.
const CARGO_FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.2" };
/// Seconds that one input may take.
const TIMEOUT: u32 = 60;
/// MiB that the process may have.
const MEMORY: u32 = 3072;

/// The target whose inputs are turned into whole components.
const COMPONENT: &str = "component";

/// How long, and what.
#[derive(clap::Args)]
pub struct Options {
    /// Seconds for each target
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Only this target; may be given more than once
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// Runs the targets one after the other. What is found is an error, and the input is kept in `fuzz/artifacts`.
pub fn all(options: &Options) -> Result<()> {
    let there = targets()?;
    if let Some(unknown) = options.only.iter().find(|name| !there.contains(name)) {
        bail!("there is no target {unknown}; there are {}", there.join(", "));
    }
    setup::system_packages()?;
    let Some(program) = tools::find(&CARGO_FUZZ) else {
        bail!("{} {} can be neither found nor built here", CARGO_FUZZ.name, CARGO_FUZZ.version);
    };
    // One of them hands leases to these.
    plugins::build(Wanted::All)?;
    let wanted = there.iter().filter(|name| options.only.is_empty() || options.only.contains(name));
    let mut found = Vec::new();
    for name in wanted {
        if run(&mut fuzz(&program, name, options.seconds)?).is_err() {
            found.push(name.as_str());
        }
    }
    ensure!(found.is_empty(), "something was found: {}; fuzz/artifacts has the inputs", found.join(", "));
    Ok(())
}

/// The names of all targets, in order.
fn targets() -> Result<Vec<String>> {
    let place = root().join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&place).with_context(|| place.display().to_string())?;
    let stem = |entry: std::fs::DirEntry| Some(entry.path().file_stem()?.to_string_lossy().into_owned());
    let mut names: Vec<String> = entries.flatten().filter_map(stem).collect();
    names.sort();
    Ok(names)
}

fn fuzz(program: &PathBuf, name: &str, seconds: u32) -> Result<Command> {
    let corpus = format!("corpus/{name}");
    let directory = root().join("fuzz");
    std::fs::create_dir_all(directory.join(&corpus)).with_context(|| corpus.clone())?;
    // With cargo's own settings for the environment, as for all that is built here.
    let settings = cargo(&[]);
    let mut command = Command::new(program);
    for (name, value) in settings.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // Coverage counters are an unstable option of the compiler; a nightly one has them as well, and may be another one.
    command.env("RUSTC_BOOTSTRAP", "1").current_dir(&directory);
    command.args(["run", "--sanitizer", "none", "--features", "host", "--target-dir"]);
    command.arg(target().join("fuzz")).arg(name).arg(&corpus);
    let seeds = format!("seeds/{name}");
    if directory.join(&seeds).is_dir() {
        command.arg(seeds);
    }
    command.arg("--").args([
        format!("-max_total_time={seconds}"),
        format!("-timeout={TIMEOUT}"),
        format!("-rss_limit_mb={MEMORY}"),
        "-print_final_stats=0".to_owned(),
        "-verbosity=1".to_owned(),
    ]);
    if name == COMPONENT {
        // A few bytes make no code, and there is no time to grow from them.
        command.args(["-len_control=0", "-max_len=8192"]);
    }
    Ok(command)
}
