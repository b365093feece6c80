//! Tests in a guest.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::programs::{Program, Test};
use super::skips;
use super::table::Outcome;
use crate::cargo::target;
use crate::test::Environment;
use crate::vm::{Guest, Ready};

/// Where the guest's tests write down what they skip, and what came of each; in the guest's own `/run`.
const SKIPS: &str = "/run/vm/skips";
/// What the test programs print.
const OUTPUT: &str = "/run/vm/output";
/// Compiled plugins, for all daemons of all tests: compiling takes long where the processor is emulated.
const CACHE: &str = "/run/vm/cache";

/// Runs tests in a new guest. Answers what came of each.
///
/// Where the processor is emulated, several guests share the tests. What has failed there is made once more, in one guest that has this
/// machine to itself, and that is said: a daemon that is starved is ended by limits of its own, such as the second that a plugin's call
/// may take.
pub fn run(
    ready: &Ready,
    environment: &Environment,
    tests: &[Test],
    without_nexthops: bool,
) -> Result<BTreeMap<Test, Outcome>> {
    let mut outcomes = run_shared(ready, environment, tests, without_nexthops)?;
    let failed = outcomes.iter().filter(|(_, outcome)| **outcome == Outcome::Failed);
    let failed: Vec<Test> = failed.map(|(test, _)| test.clone()).collect();
    if ready.emulated() && !failed.is_empty() {
        let names: Vec<&str> = failed.iter().map(|test| test.name.as_str()).collect();
        eprintln!("kernels: failed at first, made once more, in one guest: {}", names.join(", "));
        outcomes.extend(run_once(ready, environment, &failed, without_nexthops, None)?);
    }
    Ok(outcomes)
}

/// Deals the tests out to as many guests as this machine has use for, all at the same time.
fn run_shared(
    ready: &Ready,
    environment: &Environment,
    tests: &[Test],
    without_nexthops: bool,
) -> Result<BTreeMap<Test, Outcome>> {
    let (guests, memory) = ready.guests()?;
    let share = |guest| tests.iter().skip(guest).step_by(guests).cloned().collect::<Vec<Test>>();
    let shares = (0..guests).map(share).filter(|share| !share.is_empty());
    std::thread::scope(|scope| {
        let running: Vec<_> = shares
            .map(|share| {
                scope.spawn(move || run_once(ready, environment, &share, without_nexthops, Some(memory)))
            })
            .collect();
        let mut outcomes = BTreeMap::new();
        for guest in running {
            outcomes.extend(guest.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??);
        }
        Ok(outcomes)
    })
}

fn run_once(
    ready: &Ready,
    environment: &Environment,
    tests: &[Test],
    without_nexthops: bool,
    memory: Option<u32>,
) -> Result<BTreeMap<Test, Outcome>> {
    let begin = Instant::now();
    eprintln!("kernels: {} tests on Linux {}", tests.len(), ready.release());
    let files = tempfile::Builder::new().prefix("kernels-").tempdir_in(target())?;
    let script = files.path().join("tests.sh");
    std::fs::write(&script, tests_script(tests)?)?;
    let result = files.path().join("result");
    let mut variables = environment.variables();
    for (name, value) in [("FLANNELD_TEST_SKIPS", SKIPS), ("FLANNELD_TEST_CACHE", CACHE)] {
        variables.push((name.into(), value.into()));
    }
    if without_nexthops {
        variables.push(("FLANNELD_TEST_WITHOUT_NEXTHOPS".into(), "1".into()));
    }
    let status = ready.run(&Guest {
        environment: variables,
        memory,
        result: Some(result.clone()),
        ..Guest::new(vec!["/bin/sh".into(), script.into()])
    })?;
    let text = std::fs::read_to_string(&result).context("what the guest says of its tests")?;
    let outcomes = outcomes(&text, tests)?;
    eprintln!("kernels: Linux {} took {} s", ready.release(), begin.elapsed().as_secs());
    if status != 0 && !outcomes.values().any(|outcome| *outcome == Outcome::Failed) {
        bail!("the tests on Linux {} ended early, with status {status}", ready.release());
    }
    Ok(outcomes)
}

/// Runs each program with its tests, and keeps what it says of them.
fn tests_script(tests: &[Test]) -> Result<String> {
    let mut by_program: BTreeMap<&Arc<Program>, Vec<&str>> = BTreeMap::new();
    for test in tests {
        by_program.entry(&test.program).or_default().push(&test.name);
    }
    // Asked for by name alone: a real node has it loaded by its administrator.
    let mut script =
        format!("modprobe br_netfilter\nmkdir -m 700 {CACHE}\n: > {SKIPS}\n: > {OUTPUT}\nstatus=0\n");
    for (program, names) in by_program {
        let path = |path: &std::path::Path| path.to_str().map(|path| format!("'{path}'")).context("a path");
        let (file, directory) = (path(&program.file)?, path(&program.directory)?);
        // The shell's status of a pipe is its last part's.
        write!(
            script,
            "echo '== {0}' >> {OUTPUT}\ncd {directory}\n\
             {{ {file} --exact {1} 2>&1 || touch /run/vm/failed; }} | tee -a {OUTPUT}\n",
            program.name,
            names.join(" "),
        )?;
    }
    write!(
        script,
        "{{ grep -E '^(== |test .* [.]{{3}} )' {OUTPUT}; cat {SKIPS}; }} > \"$FLANNELD_VM_RESULT\"\n\
         [ ! -e /run/vm/failed ]\n"
    )?;
    Ok(script)
}

/// Reads what the script has left. A test that is not mentioned has not ended.
fn outcomes(text: &str, tests: &[Test]) -> Result<BTreeMap<Test, Outcome>> {
    let mut outcomes: BTreeMap<Test, Outcome> =
        tests.iter().map(|test| (test.clone(), Outcome::Failed)).collect();
    let mut program = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            program = name;
        } else if let Some((name, word)) =
            line.strip_prefix("test ").and_then(|line| line.split_once(" ... "))
        {
            let test = tests.iter().find(|test| test.name == name && test.program.name == program);
            if let (Some(test), "ok") = (test, word) {
                outcomes.insert(test.clone(), Outcome::Passed);
            }
        }
    }
    for (test, reason) in skips::parse(text, tests)? {
        if outcomes.get(&test) == Some(&Outcome::Passed) {
            outcomes.insert(test, Outcome::Skipped(reason));
        }
    }
    Ok(outcomes)
}
