//! What the daemon's binary has for authors of plugins: without root, without a node, and nothing is changed anywhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use flannel_lab::artifacts::{self, workspace};
use serde_json::Value;

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
    let json: Value = serde_json::from_str(&printed(&[&arguments[..], &["--json"]].concat())?)?;
    let entry = &json["peers"][0]["entries"][0];
    assert_eq!((&entry["entry"], &entry["via"]), (&"route".into(), &"192.168.0.3".into()), "{json}");

    std::fs::write(
        &leases,
        r#"[{"Subnet":"10.5.3.0/24","PublicIP":"192.168.0.3","BackendType":"hostile","BackendData":"02:00:00:00:00:03"}]"#,
    )?;
    let backend = r#"{"Type":"hostile","In":"apply","Do":"panic"}"#;
    let hostile = artifacts::component("hostile")?;
    let output = plugin(&["run", path(&hostile)?, "--leases", path(&leases)?, "--backend", backend])?;
    let shown = text(&output.stdout);
    assert!(shown.contains("FAILED: plugin hostile: apply: trapped: panicked"), "{shown}");
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.ends_with("flanneld: the plugin failed for 1 of 1 leases\n"), "{error}");

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
    let hostile = artifacts::component("hostile")?;
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

#[test]
fn the_checks_outcome_can_be_had_by_a_program() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (golden, component) = (directory.path().join("golden"), artifacts::plugin("host-gw")?);
    let arguments = ["check", path(&component)?, "--json", "--golden", path(&golden)?];
    let blessed: Value = serde_json::from_str(&printed(&[&arguments[..], &["--bless"]].concat())?)?;
    assert_eq!(
        (&blessed[0]["golden"]["verdict"], &blessed[0]["golden"]["detail"]),
        (&"ok".into(), &"written".into())
    );
    let all: Value = serde_json::from_str(&printed(&arguments)?)?;
    let [one] = all.as_array().map(Vec::as_slice).unwrap_or_default() else { panic!("{all}") };
    assert_eq!((&one["conforms"], &one["source"]), (&true.into(), &path(&component)?.into()));
    let checks = one["checks"].as_array().expect("an array");
    assert!(
        checks.iter().any(|check| check["name"] == "apply: one lease" && check["verdict"] == "ok"),
        "{one}"
    );
    assert_eq!(one["desired"]["publishes"]["backend_type"], "host-gw");

    std::fs::write(&golden, "nothing of it\n")?;
    let output = plugin(&arguments)?;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let all: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((&all[0]["conforms"], &all[0]["golden"]["verdict"]), (&false.into(), &"failed".into()));
    assert_eq!(all[0]["golden"]["difference"][0], "- nothing of it");

    let hostile = artifacts::component("hostile")?;
    let backend = r#"{"Type":"hostile","In":"register","Do":"error"}"#;
    let output = plugin(&["check", path(&hostile)?, "--json", "--backend", backend])?;
    assert!(text(&output.stderr).starts_with("flanneld: does not conform: "), "{}", text(&output.stderr));
    let all: Value = serde_json::from_slice(&output.stdout)?;
    let start = &all[0]["checks"][0];
    assert_eq!((&start["name"], &start["verdict"]), (&"start".into(), &"failed".into()));
    assert_eq!(start["detail"], "plugin hostile: register: the deed was asked for");
    assert_eq!((&all[0]["checks"][1]["verdict"], &all[0]["desired"]), (&"skipped".into(), &Value::Null));
    Ok(())
}

/// Builds a project as its README says; where rustup's toolchain has no wasm, with what Debian's packages have, as `cargo xtask` does it.
fn build(project: &Path) -> Result<Output> {
    const WASM: &str = "wasm32-unknown-unknown";
    // The very dependencies that have been built before, and no newer ones.
    std::fs::copy(workspace().join("Cargo.lock"), project.join("Cargo.lock"))?;
    let mut command = Command::new(project.join("build.sh"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO") && text != "CARGO_HOME"
            || text.starts_with("RUST") && text != "RUSTUP_HOME"
        {
            command.env_remove(&name);
        }
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    command.env("CARGO_TARGET_DIR", target.join("wasm")).env("FLANNELD", artifacts::flanneld()?);
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output()?;
    let sysroot = PathBuf::from(text(&sysroot.stdout).trim());
    if !sysroot.join("lib/rustlib").join(WASM).is_dir() {
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("/usr/bin:{path}"))
            .env("RUSTC", "/usr/bin/rustc")
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort")
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "/usr/bin/wasm-ld");
    }
    command.output().context("cannot run build.sh")
}

#[test]
fn a_new_project_in_rust_builds_and_conforms() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let project = directory.path().join("project");
    printed(&["new", "a-1-", "--lang", "rust", "--dir", path(&project)?])?;
    let built = build(&project)?;
    assert!(built.status.success(), "{}{}", text(&built.stdout), text(&built.stderr));
    let component = project.join("a-1-.wasm");
    let shown = printed(&["check", path(&component)?])?;
    assert!(shown.contains("ok       start: a-1- 0.1.0, with {\"Type\":\"a-1-\"}"), "{shown}");
    assert!(shown.contains("apply: IPv4 and IPv6: 2 entries each"), "{shown}");
    let leases = project.join("leases.json");
    let table = printed(&["run", path(&component)?, "--leases", path(&leases)?])?;
    for row in [
        "10.5.3.0/24  192.168.0.3  route  eth0    10.5.3.0/24  via 192.168.0.3",
        "10.5.4.0/24  203.0.113.4  rejected: 203.0.113.4 is not on the link of eth0",
        "10.5.5.0/24  192.168.0.5  nothing",
    ] {
        assert!(table.lines().any(|line| line == row), "{row}: {table}");
    }
    Ok(())
}

#[test]
fn a_new_project_has_the_backends_name_and_the_versions_of_this_repository() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let project = directory.path().join("project");
    printed(&["new", "sky-hook", "--dir", path(&project)?])?;
    let read = |file: &str| std::fs::read_to_string(project.join(file)).with_context(|| file.to_owned());
    assert!(read("src/lib.rs")?.contains("&[\"sky-hook\"]"));
    assert!(read("README.md")?.starts_with("# sky-hook\n"));
    assert_eq!(read("wit/policy.wit")?, std::fs::read_to_string(workspace().join("wit/policy.wit"))?);
    let ours = std::fs::read_to_string(workspace().join("Cargo.toml"))?;
    let manifest = read("Cargo.toml")?;
    let (_, dependencies) = manifest.split_once("[workspace.dependencies]\n").context("dependencies")?;
    for line in dependencies.lines().take_while(|line| !line.is_empty()) {
        assert!(ours.lines().any(|our| our == line), "{line} is not what the workspace has");
    }
    for file in ["src", "wit", "sdk", "README.md", "build.sh"] {
        let words = Command::new("grep").args(["-rI", "my.backend"]).arg(project.join(file)).output()?;
        assert_eq!(text(&words.stdout), "", "the placeholder is left");
    }
    Ok(())
}

#[test]
fn bad_names_taken_places_and_unknown_languages_are_refused_in_one_line() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let taken = path(directory.path())?;
    let free = directory.path().join("free");
    let long = "x".repeat(65);
    for (arguments, said) in [
        (["new", "Sky", "--dir", path(&free)?], "\"Sky\" is no name for a backend: 1 to 64 of a-z, 0-9, `-`"),
        (["new", "sky_hook", "--dir", path(&free)?], "no name for a backend"),
        (["new", "", "--dir", path(&free)?], "no name for a backend"),
        (["new", &long, "--dir", path(&free)?], "no name for a backend"),
        (["new", "../x", "--dir", path(&free)?], "no name for a backend"),
        (["new", "sky", "--dir", taken], "is there already; name another place with --dir"),
        (["new", "sky", "--dir", "/nowhere/sky"], "cannot make /nowhere/sky: No such file"),
        (["new", "sky", "--lang", "cobol"], "there is no project in \"cobol\"; there are: rust"),
    ] {
        let error = refusal(&arguments)?;
        assert!(error.contains(said) && error.lines().count() == 1, "{arguments:?}: {error}");
        assert!(!free.exists(), "{arguments:?}");
    }
    Ok(())
}

#[test]
fn what_is_no_module_is_not_made_a_component() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (module, output) = (directory.path().join("m.wasm"), directory.path().join("c.wasm"));
    let component = std::fs::read(artifacts::plugin("alloc")?)?;
    let broken = b"\0asm\x01\0\0\0\xff";
    for (bytes, said) in [
        (&b"hello"[..], "m.wasm is no WebAssembly module"),
        (&component, "m.wasm is a component already"),
        (broken, "m.wasm cannot be made a component: "),
    ] {
        std::fs::write(&module, bytes)?;
        let error = refusal(&["componentize", path(&module)?, "-o", path(&output)?])?;
        assert!(error.contains(said) && error.lines().count() == 1, "{said}: {error}");
        assert!(!output.exists());
    }
    Ok(())
}
