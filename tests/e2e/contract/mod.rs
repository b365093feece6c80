//! What was published of the contract stays: components that were built against it run on today's host, and the WIT says the same as
//! it did. `wit/README.md` has the rule.

mod compare;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flannel_lab::artifacts::{self, workspace};
use wit_parser::Resolve;

/// Directories of what was published, each named by its version: components, and the contract in `wit/`.
fn published() -> Result<Vec<PathBuf>> {
    let mut versions = Vec::new();
    for entry in std::fs::read_dir(workspace().join("tests/fixtures"))? {
        let path = entry?.path();
        if path.join("wit").is_dir() {
            versions.push(path);
        }
    }
    versions.sort();
    ensure!(!versions.is_empty(), "no version is kept below tests/fixtures/");
    Ok(versions)
}

fn name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).context("a name in UTF-8")
}

#[test]
fn components_of_every_published_version_pass_the_checks_of_todays_host() -> Result<()> {
    let cache = tempfile::tempdir()?;
    for version in published()? {
        let mut components = 0;
        for entry in std::fs::read_dir(&version)? {
            let file = entry?.path();
            if file.extension().is_none_or(|extension| extension != "wasm") {
                continue;
            }
            let mut command = Command::new(artifacts::flanneld()?);
            command.args(["plugin", "check"]).arg(&file).env_clear().env("FLANNELD_CACHE_DIR", cache.path());
            let output = command.output()?;
            let shown = String::from_utf8_lossy(&output.stdout);
            ensure!(
                output.status.success(),
                "{}:\n{shown}{}",
                file.display(),
                String::from_utf8_lossy(&output.stderr)
            );
            components += 1;
        }
        assert!(components >= 6, "{} has {components} components", version.display());
    }
    Ok(())
}

fn resolve(directory: &Path) -> Result<Resolve> {
    let mut resolve = Resolve::default();
    resolve.push_dir(directory).with_context(|| directory.display().to_string())?;
    Ok(resolve)
}

#[test]
fn the_contract_says_all_that_was_published_of_it() -> Result<()> {
    let today = resolve(&workspace().join("wit"))?;
    for version in published()? {
        let before = resolve(&version.join("wit"))?;
        let broken = compare::broken(&before, &today)?;
        assert!(
            broken.is_empty(),
            "wit/ breaks components that were built against {}: {}; see wit/README.md",
            name(&version)?,
            broken.join("; ")
        );
    }
    Ok(())
}

const CONTRACT: &str = "package p:q@0.1.0;
    interface types { record r { a: u8, b: string } variant v { x(u8), y } enum e { one, two } flags f { up } }
    interface log { use types.{r}; resource l { name: func() -> string; } write: func(text: string, l: borrow<l>) -> result<r, string>; }
    interface policy { use types.{v}; tick: func() -> option<v>; }
    world w { import log; export policy; }";

/// A contract with something changed.
fn changed(from: &str, to: &str) -> Result<Vec<String>> {
    assert!(CONTRACT.contains(from), "{from}");
    let parse = |text: &str| -> Result<Resolve> {
        let mut resolve = Resolve::default();
        resolve.push_str("contract.wit", text)?;
        Ok(resolve)
    };
    compare::broken(&parse(CONTRACT)?, &parse(&CONTRACT.replace(from, to))?)
}

#[test]
fn what_old_components_do_not_notice_may_change() -> Result<()> {
    for (from, to) in [
        ("package", "package"),
        ("@0.1.0", "@0.1.7"),
        ("tick:", "/// Says more than it did.\n tick:"),
        ("world w", "interface clock { now: func() -> u64; } world w"),
        ("import log;", "import log; import types;"),
        ("world w", "world v { import log; export policy; } world w"),
        ("enum e { one, two } flags f { up }", "flags f { up } enum e { one, two }"),
    ] {
        assert_eq!(changed(from, to)?, Vec::<String>::new(), "{to}");
    }
    Ok(())
}

#[test]
fn what_breaks_old_components_is_named() -> Result<()> {
    for (from, to, said) in [
        ("b: string", "b: string, c: u8", "types: the type r"),
        ("a: u8, b: string", "b: string, a: u8", "types: the type r"),
        ("x(u8), y", "x(u8), y, z", "types: the type v"),
        ("x(u8)", "x(u16)", "types: the type v"),
        ("one, two", "one, two, three", "types: the type e"),
        ("enum e { one, two }", "", "types: the type e is gone"),
        ("flags f { up }", "flags f { up, down }", "types: the type f"),
        ("name: func() -> string;", "", "log: the function [method]l.name is gone"),
        ("text: string", "text: list<u8>", "log: the function write"),
        ("borrow<l>", "l", "log: the function write"),
        ("result<r, string>", "result<r>", "log: the function write"),
        ("write:", "flush: func(); write:", "log: the function flush is new"),
        ("tick:", "tock: func(); tick:", "policy: the function tock is new"),
        ("option<v>", "option<option<v>>", "policy: the function tick"),
        ("import log;", "", "the world w no longer imports log"),
        ("export policy;", "export policy; export log;", "the world w exports something else"),
        ("world w", "world v", "the world w is gone"),
        ("@0.1.0", "@0.2.0", "p:q has no version 0.1 any more"),
    ] {
        let broken = changed(from, to)?;
        assert!(broken.iter().any(|reason| reason.contains(said)), "{to:?}: {said:?} is not in {broken:?}");
    }
    Ok(())
}
