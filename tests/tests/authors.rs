//! What the daemon's binary has for authors of plugins: without root, without a node, and nothing is changed anywhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use flannel_lab::artifacts::{self, workspace};

/// Runs `flanneld plugin …` with a cache of its own.
fn plugin(arguments: &[&str]) -> Result<Output> {
    let cache = tempfile::tempdir()?;
    let mut command = Command::new(artifacts::flanneld()?);
    command.arg("plugin").args(arguments).env_clear().env("FLANNELD_CACHE_DIR", cache.path());
    command.output().context("cannot run flanneld")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}

/// What a command prints that succeeds.
fn printed(arguments: &[&str]) -> Result<String> {
    let output = plugin(arguments)?;
    if !output.status.success() {
        bail!("{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    }
    Ok(text(&output.stdout))
}

/// The lines of standard error of a command that fails.
fn refusal(arguments: &[&str]) -> Result<String> {
    let output = plugin(arguments)?;
    assert!(!output.status.success(), "{arguments:?}: {}", text(&output.stdout));
    Ok(text(&output.stderr))
}

#[test]
fn a_dry_run_prints_a_table_or_json() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (leases, component) = (directory.path().join("leases.json"), artifacts::plugin("host-gw")?);
    std::fs::write(
        &leases,
        r#"[{"Subnet":"10.5.3.0/24","PublicIP":"192.168.0.3","BackendType":"host-gw"}]"#,
    )?;
    let arguments = ["run", path(&component)?, "--leases", path(&leases)?];
    let table = printed(&arguments)?;
    let row = "10.5.3.0/24  192.168.0.3  route  eth0    10.5.3.0/24  via 192.168.0.3";
    assert!(table.lines().any(|line| line == row), "{table}");
    let json: serde_json::Value = serde_json::from_str(&printed(&[&arguments[..], &["--json"]].concat())?)?;
    let entry = &json["peers"][0]["entries"][0];
    assert_eq!((&entry["entry"], &entry["via"]), (&"route".into(), &"192.168.0.3".into()), "{json}");

    std::fs::write(&leases, r#"[{"PublicIP":"192.168.0.3"}]"#)?;
    let error = refusal(&arguments)?;
    assert!(error.contains("leases.json: lease 1: it has neither Subnet nor IPv6Subnet"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    let error = refusal(&[&arguments[..2], &["--leases", "/nowhere.json"]].concat())?;
    assert!(error.contains("cannot read /nowhere.json"), "{error}");
    Ok(())
}

#[test]
fn all_that_is_built_in_passes_the_checks() -> Result<()> {
    let shown = printed(&["check"])?;
    for name in ["alloc", "host-gw", "ipip", "udp", "vxlan", "wireguard"] {
        assert!(shown.contains(&format!("built-in {name}\nok       start: {name} ")), "{name}: {shown}");
    }
    assert!(!shown.contains("FAILED"), "{shown}");
    assert!(shown.contains("via 10.0.1.0 onlink"), "the example's entries are shown: {shown}");
    Ok(())
}

#[test]
fn a_plugin_that_breaks_the_contract_fails_the_checks() -> Result<()> {
    let directory = std::env::var_os("FLANNELD_TEST_COMPONENTS")
        .map_or_else(|| workspace().join("target/components"), PathBuf::from);
    let hostile = directory.join("hostile.wasm");
    let backend = r#"{"Type":"hostile","In":"tick","Do":"error"}"#;
    let output = plugin(&["check", path(&hostile)?, "--backend", backend])?;
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    let failed: Vec<&str> = shown.lines().filter(|line| line.starts_with("FAILED")).collect();
    assert_eq!(failed, ["FAILED   tick: plugin hostile: tick: the deed was asked for"]);
    let error = text(&output.stderr);
    assert!(error.starts_with("flanneld: does not conform: ") && error.contains("hostile.wasm"), "{error}");
    Ok(())
}

#[test]
fn a_golden_file_is_written_compared_and_says_what_differs() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (golden, component) = (directory.path().join("golden"), artifacts::plugin("host-gw")?);
    let arguments = ["check", path(&component)?, "--golden", path(&golden)?];
    let error = refusal(&arguments)?;
    assert!(error.contains("--bless writes it"), "{error}");
    printed(&[&arguments[..], &["--bless"]].concat())?;
    let shown = printed(&arguments)?;
    assert!(shown.contains("ok       golden file"), "{shown}");
    let blessed = std::fs::read_to_string(&golden)?;
    assert!(blessed.contains("route  eth0    10.0.1.0/24"), "{blessed}");
    std::fs::write(&golden, blessed.replace("172.20.0.2", "172.20.0.7"))?;
    let output = plugin(&arguments)?;
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    let is_difference = |sign: char, gateway: &str| {
        shown.lines().any(|line| line.starts_with(sign) && line.ends_with(&format!("via {gateway}")))
    };
    assert!(is_difference('-', "172.20.0.7") && is_difference('+', "172.20.0.2"), "{shown}");
    Ok(())
}
