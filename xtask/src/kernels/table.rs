//! Each test, and where it ran.

use std::collections::BTreeMap;
use std::fmt;

use super::programs::Test;
use super::skips::Allowed;

/// What came of a test on a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran, and held.
    Passed,
    /// It ran, and did not.
    Failed,
    /// It did not run, wholly or in part, and says why.
    Skipped(String),
}

/// The tests and the kernels.
pub struct Table {
    tests: Vec<Test>,
    kernels: Vec<(String, BTreeMap<Test, Outcome>)>,
    allowed: Allowed,
}

impl Table {
    /// An empty one.
    pub fn new(tests: &[Test]) -> Self {
        let mut tests = tests.to_vec();
        tests.sort_by(|a, b| (&a.program.name, &a.name).cmp(&(&b.program.name, &b.name)));
        Self { tests, kernels: Vec::new(), allowed: Allowed::default() }
    }

    /// Adds this machine's kernel, on which all that did not skip has passed.
    pub fn add_host(&mut self, release: &str, skipped: &BTreeMap<Test, String>) {
        let outcome =
            |test: &Test| skipped.get(test).map_or(Outcome::Passed, |why| Outcome::Skipped(why.clone()));
        let outcomes = self.tests.iter().map(|test| (test.clone(), outcome(test))).collect();
        self.kernels.push((release.to_owned(), outcomes));
    }

    /// Adds a kernel. Answers which tests failed there.
    pub fn add(&mut self, release: &str, outcomes: &BTreeMap<Test, Outcome>) -> Vec<String> {
        self.kernels.push((release.to_owned(), outcomes.clone()));
        let failed = outcomes.iter().filter(|(_, outcome)| **outcome == Outcome::Failed);
        failed.map(|(test, _)| format!("{} on {release}", test.name)).collect()
    }

    /// Says which tests may run nowhere, and why.
    pub fn allow(&mut self, allowed: Allowed) {
        self.allowed = allowed;
    }

    /// Why a test ran nowhere; none: it ran.
    fn nowhere(&self, test: &Test) -> Option<&str> {
        let of = |(_, outcomes): &(String, BTreeMap<Test, Outcome>)| outcomes.get(test).cloned();
        if self.kernels.iter().filter_map(of).any(|outcome| !matches!(outcome, Outcome::Skipped(_))) {
            return None;
        }
        if let Some(reason) = self.allowed.reason(&test.name) {
            return Some(reason);
        }
        self.kernels.iter().rev().find_map(|(_, outcomes)| match outcomes.get(test) {
            Some(Outcome::Skipped(reason)) => Some(reason.as_str()),
            _ => None,
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.tests.iter().map(|test| test.name.chars().count()).max().unwrap_or(0);
        let columns: Vec<usize> = self.kernels.iter().map(|(release, _)| release.len().max(7)).collect();
        let mut program = "";
        for test in &self.tests {
            if program != test.program.name {
                program = &test.program.name;
                write!(f, "\n{program:width$}")?;
                for ((release, _), column) in self.kernels.iter().zip(&columns) {
                    write!(f, "  {release:column$}")?;
                }
                writeln!(f)?;
            }
            write!(f, "{:width$}", test.name)?;
            for ((_, outcomes), column) in self.kernels.iter().zip(&columns) {
                let word = match outcomes.get(test) {
                    Some(Outcome::Passed) => "ran",
                    Some(Outcome::Failed) => "FAILED",
                    Some(Outcome::Skipped(_)) => "skipped",
                    None => "-",
                };
                write!(f, "  {word:column$}")?;
            }
            match self.nowhere(test) {
                Some(reason) => writeln!(f, "  nowhere: {reason}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}
