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
    let tests = programs::find(environment)?;
    verdict(failures, |name| {
        let same: Vec<&Test> = tests.iter().filter(|test| test.name == name).collect();
        !same.is_empty() && same.iter().all(|test| passes(environment, test, skips))
    })
}

/// What comes of failures, if each test is made anew.
fn verdict(failures: &[Failure], passes: impl Fn(&str) -> bool) -> Result<String> {
    let names = || failures.iter().map(|failure| failure.test.as_str()).collect::<Vec<_>>().join(", ");
    if failures.len() > MOST {
        bail!("{} tests have failed: {}", failures.len(), names());
    }
    if let Some(again) = failures.iter().find(|failure| !passes(&failure.test)) {
        bail!("failed: {}; of these {} alone, too", names(), again.test);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(names: &[&str]) -> Vec<Failure> {
        let failure =
            |name: &&str| Failure { test: (*name).to_owned(), error: vec!["Error: 3 lost".to_owned()] };
        names.iter().map(failure).collect()
    }

    #[test]
    fn tests_that_pass_alone_are_named_with_their_errors() {
        let told = verdict(&failed(&["a", "b"]), |_| true).expect("passed");
        for part in ["UNSTEADY: a has failed:\n    Error: 3 lost", "UNSTEADY: b has failed:"] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn one_that_fails_alone_fails_the_run_with_all_named() {
        let error = verdict(&failed(&["a", "b"]), |name| name == "a").expect_err("failed").to_string();
        assert_eq!(error, "failed: a, b; of these b alone, too");
    }

    #[test]
    fn more_failures_than_can_be_an_accident_are_not_tried_again() {
        let error = verdict(&failed(&["a", "b", "c", "d", "e"]), |_| panic!("tried")).expect_err("failed");
        assert!(error.to_string().starts_with("5 tests have failed: a, b"), "{error}");
    }
}
