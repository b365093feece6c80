//! Tests that have failed beside others, once more, each alone.
//!
//! Hundreds of tests of the lab run side by side on few processors, with daemons, stores and packets in each. One that fails there may
//! have found a fault, or a machine on which it was not its turn for seconds. A fault is there the next time, too: so it has to pass several
//! times in a row to count as the latter, and is named in any case.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::failures::Failure;
use crate::kernels::programs::{self, Test};
use crate::test::Environment;

/// So often in a row it has to pass.
const TIMES: usize = 3;
/// More than so many at once are no accident.
const MOST: usize = 4;

/// Makes each of the tests that have failed anew. Only tests of the lab and the host count: what others do depends on no time. Answers what is
/// to be said at the end of the run.
///
/// # Errors
///
/// One of them fails again, is not to be found, or there are too many: all are named.
pub fn judge(environment: &Environment, failures: &[Failure], skips: &Path) -> Result<String> {
    for failure in failures {
        eprintln!("xtask: {failure}");
    }
    let names = || failures.iter().map(|failure| failure.test.as_str()).collect::<Vec<_>>().join(", ");
    if failures.len() > MOST {
        bail!("{} tests have failed: {}", failures.len(), names());
    }
    let tests = programs::find(environment)?;
    for failure in failures {
        let same: Vec<&Test> = tests.iter().filter(|test| test.name == failure.test).collect();
        if same.is_empty() || !same.iter().all(|test| passes(environment, test, skips)) {
            bail!("failed: {}; of these {} alone, too", names(), failure.test);
        }
    }
    let told: Vec<String> = failures.iter().map(|failure| format!("xtask: UNSTEADY: {failure}")).collect();
    Ok(format!("{}\nxtask: that was beside other tests; alone each passed {TIMES} times", told.join("\n")))
}

/// Whether a test passes as often as it has to.
fn passes(environment: &Environment, test: &Test, skips: &Path) -> bool {
    (1..=TIMES).all(|time| {
        eprintln!("xtask: {} alone, {time} of {TIMES}", test.name);
        let mut command = Command::new(&test.program.file);
        command.args(["--exact", &test.name]).current_dir(&test.program.directory);
        command.envs(environment.variables()).env("FLANNELD_TEST_SKIPS", skips);
        // To standard error, where progress belongs.
        command.stdout(Stdio::from(std::io::stderr())).status().is_ok_and(|status| status.success())
    })
}
