//! What has skipped: tests write it down (`tests/support`), each with its program and the reason.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use super::programs::Test;
use crate::cargo::root;

/// Tests that may run nowhere, each with the reason.
pub const ALLOWED: &str = "tests/skips.txt";

/// The tests that a file says have skipped, with the reasons.
pub fn read(file: &Path, tests: &[Test]) -> Result<BTreeMap<Test, String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => parse(&text, tests),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}

/// The same of what is in the file.
/// An error if one of them is nowhere among the tests: it would count as made.
pub fn parse(text: &str, tests: &[Test]) -> Result<BTreeMap<Test, String>> {
    let mut skipped = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, '\t');
        let (Some(program), Some(name), Some(reason)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let is_it = |test: &&Test| {
            test.name == name && test.program.file.file_name().is_some_and(|file| file == program)
        };
        let test = tests.iter().find(is_it);
        let test = test.with_context(|| {
            format!("{program} says that {name} has skipped, and is no program of this build")
        })?;
        skipped.entry(test.clone()).or_insert_with(|| reason.to_owned());
    }
    Ok(skipped)
}

/// The tests that may run nowhere, each with the reason, by name; a whole module by its name and `::`.
#[derive(Clone, Debug, Default)]
pub struct Allowed(BTreeMap<String, String>);

impl Allowed {
    /// The project's list: a line each, the name, a colon, a blank, and the reason.
    pub fn read() -> Result<Self> {
        Self::parse(&std::fs::read_to_string(root().join(ALLOWED)).context(ALLOWED)?)
    }

    fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let split = |line: &str| {
            let (name, reason) =
                line.split_once(": ").with_context(|| format!("{ALLOWED}: no reason: {line}"))?;
            Ok((name.to_owned(), reason.to_owned()))
        };
        lines.map(split).collect::<Result<_>>().map(Self)
    }

    /// Why a test may run nowhere; none: it may not.
    pub fn reason(&self, test: &str) -> Option<&str> {
        let modules = test.match_indices("::").map(|(at, colons)| &test[..at + colons.len()]);
        std::iter::once(test).chain(modules).find_map(|name| self.0.get(name)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_may_run_nowhere_if_it_or_its_module_is_on_the_list() -> Result<()> {
        let allowed = Allowed::parse("# x\n\na::b: why: so\nc::d::: of all\n")?;
        for (test, reason) in [
            ("a::b", Some("why: so")),
            ("a::bc", None),
            ("a::b::c", None),
            ("c::d::e", Some("of all")),
            ("c::d::e::f", Some("of all")),
            ("c::dd::e", None),
            ("c::d", None),
        ] {
            assert_eq!(allowed.reason(test), reason, "{test}");
        }
        Ok(())
    }
}
