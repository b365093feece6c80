//! Why tests have failed, in short: what a test prints with its error may be long, and a log of a whole run is cut by those who keep it.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cargo;

/// Lines of one failure.
const LINES: usize = 4;
/// Characters of a line.
const WIDTH: usize = 300;
/// How long is waited for the rest of what tests have printed when they have ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// A test that has failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its name, with its module.
    pub test: String,
    /// The first lines of its error.
    pub error: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has failed:", self.test)?;
        self.error.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// Shows a command that runs tests and runs it. Answers which have failed: none if all has gone well. If it fails otherwise that is an
/// error: nothing was compiled, or a program has ended in the midst of its tests.
pub fn run(command: &mut Command) -> Result<Vec<Failure>> {
    let shown = cargo::show(command);
    eprintln!("+ {shown}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run `{shown}`"))?;
    let log = Arc::new(Mutex::new(Log::default()));
    let reader = child.stdout.take().map(|stdout| {
        let log = Arc::clone(&log);
        std::thread::spawn(move || follow(stdout, &log))
    });
    let status = child.wait()?;
    let ended = Instant::now();
    // A process that a test has left behind may keep the pipe open.
    while reader.as_ref().is_some_and(|reader| !reader.is_finished()) && ended.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    let log = std::mem::take(&mut *log.lock().unwrap_or_else(PoisonError::into_inner));
    if status.success() {
        return Ok(Vec::new());
    }
    if !log.explains_failure() {
        for failure in &log.failures {
            eprintln!("xtask: {failure}");
        }
        bail!("`{shown}` failed ({status})");
    }
    Ok(log.failures)
}

/// Passes on what tests print, whole lines at a time: to standard error, where progress belongs.
fn follow(stdout: ChildStdout, log: &Mutex<Log>) {
    for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
        // Who cannot be written to is not listening.
        let _ = std::io::stderr().write_all(&[line.as_slice(), b"\n"].concat());
        log.lock().unwrap_or_else(PoisonError::into_inner).read(&String::from_utf8_lossy(&line));
    }
}

/// What test programs have printed so far.
#[derive(Default)]
struct Log {
    failures: Vec<Failure>,
    /// How many tests the programs themselves say have failed.
    counted: usize,
    /// So many programs have begun with their tests, and not ended with them.
    under_way: usize,
    /// What a test printed is being read.
    in_output: bool,
    /// Its error has begun.
    in_error: bool,
}

impl Log {
    fn read(&mut self, line: &str) {
        if let Some(test) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.failures.push(Failure { test: test.to_owned(), error: Vec::new() });
            (self.in_output, self.in_error) = (true, false);
        } else if line == "failures:" {
            self.in_output = false;
        } else if let Some(failure) = self.failures.last_mut().filter(|_| self.in_output) {
            self.in_error |= line.starts_with("Error: ") || line.contains(" panicked at ");
            if self.in_error && failure.error.len() < LINES && !line.is_empty() {
                failure.error.push(line.chars().take(WIDTH).collect());
            }
        } else if begins(line) {
            self.under_way += 1;
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.under_way = self.under_way.saturating_sub(1);
            self.counted += failed(result).unwrap_or_default();
        }
    }

    /// Whether the tests that have failed are all that has gone wrong, as far as the output says.
    fn explains_failure(&self) -> bool {
        !self.failures.is_empty() && self.under_way == 0 && self.counted == self.failures.len()
    }
}

/// Whether a test program begins with its tests: `running 3 tests`.
fn begins(line: &str) -> bool {
    let count = line.strip_prefix("running ").and_then(|rest| rest.split_once(" test"));
    count.is_some_and(|(count, _)| count.parse::<usize>().is_ok())
}

/// How many tests have failed, of a program's last line: `FAILED. 809 passed; 1 failed; …`.
fn failed(result: &str) -> Option<usize> {
    let count = result.split("; ").find_map(|part| part.strip_suffix(" failed"))?;
    count.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "running 3 tests\ntest a ... FAILED\n\nfailures:\n\n---- a stdout ----\nnoise\nrunning 1 test\n\
                          Error: 3 lost\n\nof 5\nx\ny\nz\n\n---- b stdout ----\n\
                          thread 'b' (7) panicked at src/b.rs:1:\nassertion failed\n\n\nfailures:\n    a\n    b\n\n\
                          test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s\n";

    fn read(text: &str) -> Log {
        let mut log = Log::default();
        text.lines().for_each(|line| log.read(line));
        log
    }

    #[test]
    fn each_failed_test_is_told_with_the_beginning_of_its_error() {
        let expected = [
            ("a", vec!["Error: 3 lost", "of 5", "x", "y"]),
            ("b", vec!["thread 'b' (7) panicked at src/b.rs:1:", "assertion failed"]),
        ];
        let owned = |(test, lines): (&str, Vec<&str>)| Failure {
            test: test.to_owned(),
            error: lines.into_iter().map(str::to_owned).collect(),
        };
        let log = read(OUTPUT);
        assert_eq!(log.failures, expected.map(owned));
        assert!(log.explains_failure());
    }

    #[test]
    fn a_program_that_ends_in_the_midst_of_its_tests_is_not_explained_by_the_failures_of_others() {
        assert!(!read(&format!("{OUTPUT}running 1 test\n")).explains_failure());
        assert!(!read("running 1 test\ntest a ... FAILED\n").explains_failure());
        assert!(!read("").explains_failure());
        let ok = "running 1 test\ntest c ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored\n";
        assert!(!read(ok).explains_failure());
        assert!(read(&format!("{ok}{OUTPUT}{ok}")).explains_failure());
    }

    #[test]
    fn a_failure_whose_output_is_not_shown_is_not_explained_by_that_of_another() {
        assert!(!read(&OUTPUT.replace("2 failed", "3 failed")).explains_failure());
    }
}
