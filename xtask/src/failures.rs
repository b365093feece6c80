//! Why tests have failed, in short: what a test prints with its error may be long, and a log of a whole run is cut by those who keep it.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cargo;

/// Lines of one failure.
const LINES: usize = 4;
/// Characters of a line.
const WIDTH: usize = 300;
/// How long is waited for the rest of what tests have printed when they have ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// Shows a command that runs tests and runs it. If it fails, says once more at the end which tests have failed, and how their errors begin.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = cargo::show(command);
    eprintln!("+ {shown}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run `{shown}`"))?;
    let failures = Arc::new(Mutex::new(Failures::default()));
    let reader = child.stdout.take().map(|stdout| {
        let failures = Arc::clone(&failures);
        std::thread::spawn(move || follow(stdout, &failures))
    });
    let status = child.wait()?;
    let ended = Instant::now();
    // A process that a test has left behind may keep the pipe open.
    while reader.as_ref().is_some_and(|reader| !reader.is_finished()) && ended.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    if !status.success() {
        failures.lock().unwrap_or_else(PoisonError::into_inner).tell();
    }
    ensure!(status.success(), "`{shown}` failed ({status})");
    Ok(())
}

/// Passes on what tests print, whole lines at a time: to standard error, where progress belongs.
fn follow(stdout: ChildStdout, failures: &Mutex<Failures>) {
    for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
        // Who cannot be written to is not listening.
        let _ = std::io::stderr().write_all(&[line.as_slice(), b"\n"].concat());
        failures.lock().unwrap_or_else(PoisonError::into_inner).read(&String::from_utf8_lossy(&line));
    }
}

/// What has failed so far.
#[derive(Default)]
struct Failures {
    /// Each test, with the first lines of its error.
    tests: Vec<(String, Vec<String>)>,
    /// What a test printed is being read.
    in_output: bool,
    /// Its error has begun.
    in_error: bool,
}

impl Failures {
    fn read(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.tests.push((name.to_owned(), Vec::new()));
            (self.in_output, self.in_error) = (true, false);
        } else if line == "failures:" {
            self.in_output = false;
        } else if let Some((_, lines)) = self.tests.last_mut().filter(|_| self.in_output) {
            self.in_error |= line.starts_with("Error: ") || line.contains(" panicked at ");
            if self.in_error && lines.len() < LINES && !line.is_empty() {
                lines.push(line.chars().take(WIDTH).collect());
            }
        }
    }

    fn tell(&self) {
        for (name, lines) in &self.tests {
            eprintln!("xtask: {name} has failed:");
            for line in lines {
                eprintln!("    {line}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failed_test_is_told_with_the_beginning_of_its_error() {
        let output = "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\nnoise\nError: 3 lost\n\nof 5\nx\ny\nz\n\n---- b stdout ----\n\
                      thread 'b' (7) panicked at src/b.rs:1:\nassertion failed\n\n\nfailures:\n    a\n    b\n";
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.read(line));
        let expected = [
            ("a", vec!["Error: 3 lost", "of 5", "x", "y"]),
            ("b", vec!["thread 'b' (7) panicked at src/b.rs:1:", "assertion failed"]),
        ];
        let expected =
            expected.map(|(name, lines)| (name.to_owned(), lines.into_iter().map(str::to_owned).collect()));
        assert_eq!(failures.tests, expected);
    }
}
