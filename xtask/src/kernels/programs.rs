//! The test programs that cargo has built, and the tests in them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cargo::{output, root};
use crate::test::Environment;

/// A test program.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Program {
    /// What cargo calls it, such as `backends`.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// The directory that cargo runs it in: its package's.
    pub directory: PathBuf,
}

/// A test.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// Where it is.
    pub program: Arc<Program>,
    /// Its name, with its module.
    pub name: String,
}

/// Finds all tests of the workspace whose outcome may depend on the kernel: those of the daemon's crates and the lab's, with all that runs on it.
pub fn find(environment: &Environment) -> Result<Vec<Test>> {
    let mut command = environment.cargo_test();
    // The whole workspace, as for the run on this kernel: of fewer packages cargo would make other programs.
    command.args(["--workspace", "--no-run", "--message-format", "json"]);
    let mut tests = Vec::new();
    for line in output(&mut command)?.lines() {
        let message: Value = serde_json::from_str(line).context("cargo's messages")?;
        if let Some(program) = program(&message) {
            tests.extend(list(&Arc::new(program))?);
        }
    }
    Ok(tests)
}

fn program(message: &Value) -> Option<Program> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    let counts = ["host", "tests/e2e", "tests/image", "tests/lab"];
    if !counts.iter().any(|folder| manifest.starts_with(root().join(folder))) {
        return None;
    }
    Some(Program {
        name: message["target"]["name"].as_str()?.to_owned(),
        file: message["executable"].as_str()?.into(),
        directory: manifest.parent()?.to_owned(),
    })
}

/// Its tests, but for those that are ignored: they are parts of others.
fn list(program: &Arc<Program>) -> Result<Vec<Test>> {
    let names = |which: &[&str]| -> Result<BTreeSet<String>> {
        let listed = output(Command::new(&program.file).args(["--list", "--format", "terse"]).args(which))?;
        Ok(listed.lines().filter_map(|line| line.strip_suffix(": test").map(str::to_owned)).collect())
    };
    let (all, ignored) = (names(&[])?, names(&["--ignored"])?);
    Ok(all
        .difference(&ignored)
        .map(|name| Test { program: Arc::clone(program), name: name.clone() })
        .collect())
}
