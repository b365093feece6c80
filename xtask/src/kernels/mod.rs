//! Tests on other kernels than this machine's: what has skipped here, or everything, in virtual machines.
//!
//! | module | job |
//! |---|---|
//! | [`programs`] | the test programs that cargo has built, and their tests |
//! | [`skips`] | what a run has skipped, and what may skip everywhere |
//! | [`guest`] | some tests in a guest, and what came of each |
//! | [`table`] | each test, and where it ran |

mod guest;
pub mod programs;
mod skips;
mod table;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::cargo::target;
use crate::test::Environment;
use crate::vm;
use programs::Test;
use table::{Outcome, Table};

/// The series of Debian's kernels on which all that skips here is made.
const SERIES: [&str; 2] = ["6.12", "6.1"];

/// Which tests, on which kernels.
#[derive(clap::Args)]
pub struct Options {
    /// The kernel: a series of Debian's, or `host`; may be given several times [default: 6.12 and 6.1]
    #[arg(long, value_name = "VERSION|host")]
    kernel: Vec<vm::Version>,
    /// Nexthop objects count as missing, as on a kernel before 5.3
    #[arg(long)]
    without_nexthops: bool,
    /// Only tests whose names contain one of these, such as `wireguard::` for those of that file [default: all]
    #[arg(last = true)]
    names: Vec<String>,
}

/// Runs all tests, or those that were named, in guests.
pub fn run(options: &Options) -> Result<()> {
    let environment = Environment::prepare()?;
    let mut tests = programs::find(&environment)?;
    let named = |test: &Test| options.names.iter().any(|name| test.name.contains(name));
    tests.retain(|test| options.names.is_empty() || named(test));
    if tests.is_empty() {
        bail!("no test is called so");
    }
    let kernels = if options.kernel.is_empty() { usual() } else { options.kernel.clone() };
    let mut table = Table::new(&tests);
    let mut failed = Vec::new();
    for kernel in kernels {
        let ready = vm::prepare(&kernel)?;
        let results = guest::run(&ready, &environment, &tests, options.without_nexthops)?;
        failed.extend(table.add(ready.release(), &results));
    }
    println!("{table}");
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

/// Where a run of all tests on this machine's kernel writes down what it skips.
pub fn skips_file() -> PathBuf {
    target().join("test-skips")
}

/// After a run on this machine's kernel: makes elsewhere what has skipped, shows where each test ran, and fails if one ran nowhere
/// that is not on the list of those that may. `all`: the run was of all tests.
pub fn prove(environment: &Environment, all: bool) -> Result<()> {
    let tests = programs::find(environment)?;
    let skipped = skips::read(&skips_file(), &tests)?;
    let open: Vec<Test> = tests.iter().filter(|test| skipped.contains_key(*test)).cloned().collect();
    let shown: Vec<Test> = if all { tests } else { open.clone() };
    let mut table = Table::new(&shown);
    table.add_host(&crate::cargo::output(std::process::Command::new("uname").arg("-r"))?, &skipped);
    let allowed = skips::Allowed::read()?;
    let mut left: BTreeSet<Test> =
        open.into_iter().filter(|test| allowed.reason(&test.name).is_none()).collect();
    let mut failed = Vec::new();
    let mut hindered = false;
    for series in usual() {
        if left.is_empty() {
            break;
        }
        let ready = match vm::prepare(&series) {
            Ok(ready) => ready,
            Err(error) => {
                eprintln!("kernels: nothing is made on Linux {series}: {error:#}");
                hindered = true;
                continue;
            }
        };
        let wanted: Vec<Test> = left.iter().cloned().collect();
        let results = guest::run(&ready, environment, &wanted, false)?;
        failed.extend(table.add(ready.release(), &results));
        left.retain(|test| !matches!(results.get(test), Some(Outcome::Passed)));
    }
    table.allow(allowed);
    println!("{table}");
    if !failed.is_empty() {
        bail!("failed on other kernels: {}", failed.join(", "));
    }
    if left.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = left.iter().map(|test| test.name.as_str()).collect();
    if hindered {
        // Why was said above, in a line of its own.
        eprintln!("kernels: {} tests ran nowhere", names.len());
        return Ok(());
    }
    bail!("ran nowhere, and not in {}: {}", skips::ALLOWED, names.join(", "))
}

fn usual() -> Vec<vm::Version> {
    SERIES.iter().map(|series| vm::Version::Series((*series).to_owned())).collect()
}
