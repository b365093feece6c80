//! What the daemon's binary has for authors of plugins: without root, without a node, and nothing is changed anywhere.

use std::path::Path;
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
    let last = error.lines().last().context("a line")?;
    let said = "flanneld: the plugin failed for 1 of 1 leases: plugin hostile: apply: trapped: panicked";
    assert!(last.starts_with(said), "{error}");

    std::fs::write(&leases, r#"[{"PublicIP":"192.168.0.3"}]"#)?;
    let error = refusal(&arguments)?;
    assert!(error.contains("leases.json: lease 1: it has neither Subnet nor IPv6Subnet"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    let error = refusal(&[&arguments[..2], &["--leases", "/nowhere.json"]].concat())?;
    assert!(error.contains("cannot read /nowhere.json"), "{error}");
    Ok(())
}

#[test]
fn all_that_try_a_plugin_take_the_same() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (leases, vxlan) = (directory.path().join("leases.json"), artifacts::plugin("vxlan")?);
    let (leases, vxlan) = (path(&leases)?, path(&vxlan)?);
    let made = "10.0.2.0/24 and fc00:0:0:2::/64  172.20.0.2,fd77::1:2  route";
    for command in ["run", "check"] {
        let more: &[&str] = if command == "check" { &["--quick"] } else { &[] };
        let shown = printed(&[&[command, vxlan], more].concat())?;
        assert!(shown.contains(made), "{command}: {shown}");
        let options = ["--backend", r#"{"VNI":7}"#];
        let shown = printed(&[&[command, vxlan], more, &options[..]].concat())?;
        assert!(shown.contains("flannel.7"), "{command}: {shown}");
        let shown = printed(&[&[command, "--type", "VXLAN"], more, &options[..]].concat())?;
        assert!(shown.contains("flannel.7"), "the built-in plugin: {command}: {shown}");
    }
    let costs: Value = serde_json::from_str(&printed(&["bench", vxlan, "--count", "2", "--json"])?)?;
    assert_eq!((&costs[0]["entries"], &costs[0]["rejected"]), (&6.into(), &0.into()), "{costs}");

    std::fs::write(
        leases,
        r#"{"Node":{"Subnet":"10.5.72.0/24","Network":"10.5.0.0/16"},"Leases":[
            {"Subnet":"10.5.3.0/24","PublicIP":"192.168.0.3","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"9e:00:00:00:00:03"}},
            {"Subnet":"10.5.9.0/24","PublicIP":"192.168.0.9","BackendType":"vxlan"}]}"#,
    )?;
    let ran = printed(&["run", vxlan, "--leases", leases])?;
    assert!(ran.contains("9e:00:00:00:00:03  is at 192.168.0.3"), "{ran}");
    let checked = printed(&["check", vxlan, "--quick", "--leases", leases])?;
    assert!(checked.contains(&ran), "the same table: {checked}");
    assert!(checked.contains("ok       apply: the leases of the file: 1 rejected\n"), "{checked}");
    let costs: Value = serde_json::from_str(&printed(&["bench", vxlan, "--leases", leases, "--json"])?)?;
    let cost = &costs[0];
    assert_eq!(
        (&cost["leases"], &cost["entries"], &cost["rejected"]),
        (&2.into(), &3.into(), &1.into()),
        "{costs}"
    );

    std::fs::write(leases, r#"[{"Subnet":"10.255.0.0/16"}]"#)?;
    for (more, said) in [
        (&["--leases", leases][..], "leases.json: the lease of 10.255.0.0/16 overlaps the node's own"),
        (&["--leases", "/nowhere.json"], "cannot read /nowhere.json"),
        (&["--type", "gre"], "plugin vxlan is for the backend type vxlan, and not for gre"),
        (
            &["--type", "gre", "--backend", r#"{"Type":"vxlan"}"#],
            "--type is gre, and the Type in --backend vxlan",
        ),
        (&["--backend", "[]"], "--backend: invalid type: sequence, expected an object"),
    ] {
        for command in ["run", "check", "bench"] {
            let output = plugin(&[&[command, vxlan], more].concat())?;
            let shown = [output.stdout, output.stderr].map(|said| text(&said)).concat();
            assert!(!output.status.success() && shown.contains(said), "{command} {more:?}: {shown}");
        }
    }
    for command in ["run", "bench"] {
        let error = refusal(&[command])?;
        assert!(error.contains("which plugin? name a file, or a built-in plugin with --type"), "{error}");
    }
    Ok(())
}

#[test]
fn all_that_is_built_in_passes_the_checks() -> Result<()> {
    let shown = printed(&["check"])?;
    for name in ["alloc", "extension", "hetzner", "host-gw", "ipip", "udp", "vxlan", "wireguard"] {
        assert!(shown.contains(&format!("built-in {name}\nok       start: {name} ")), "{name}: {shown}");
    }
    assert!(!shown.contains("FAILED"), "{shown}");
    assert!(shown.contains("via 10.0.1.0 onlink"), "the example's entries are shown: {shown}");
    assert!(shown.ends_with("\nbuilt-in wireguard conforms\n"), "{shown}");
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
    let said = format!(
        "\nthese alone once more: --only tick\n{} does not conform: 1 of 35 checks failed\n",
        hostile.display()
    );
    assert!(shown.ends_with(&said), "{shown}");
    Ok(())
}

#[test]
fn a_part_of_the_checks_says_that_it_is_one() -> Result<()> {
    let component = artifacts::plugin("host-gw")?;
    let component = path(&component)?;
    let shown = printed(&["check", component, "--quick"])?;
    let last = shown.lines().last().context("a line")?;
    let part = "; --quick is only a part of all checks";
    let silent = format!(" checks passed{part}, and does not say whether the plugin conforms");
    assert!(last.starts_with(&format!("{component}: ")) && last.ends_with(&silent), "{last}");
    let shown = printed(&["check", component, "--only", "tick,lease-acquired"])?;
    let seen: Vec<&str> = shown.lines().filter_map(|line| line.strip_prefix("ok       ")).collect();
    assert!(
        seen.len() == 5 && seen[1].starts_with("lease-acquired: ") && seen[4] == "tick: no more",
        "{shown}"
    );
    let json: Value = serde_json::from_str(&printed(&["check", component, "--only", "tick", "--json"])?)?;
    assert_eq!((&json[0]["conforms"], &json[0]["checks"][1]["id"]), (&Value::Null, &"tick".into()));

    let hostile = artifacts::component("hostile")?;
    let backend = r#"{"Type":"hostile","In":"tick","Do":"error"}"#;
    let output = plugin(&["check", path(&hostile)?, "--backend", backend, "--quick"])?;
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    let last = shown.lines().last().context("a line")?;
    assert!(last.contains(" does not conform: 1 of ") && last.ends_with(part), "{last}");

    let error = refusal(&["check", component, "--only", "tick,tock"])?;
    assert!(
        error.contains("there is no check \"tock\"; there are: start, leases, describe-names, "),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
    let error = refusal(&["check", component, "--only", "tick", "--quick"])?;
    assert!(error.contains("cannot be used with"), "{error}");
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

#[test]
fn a_new_project_has_the_backends_name_and_the_versions_of_this_repository() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let project = directory.path().join("project");
    printed(&["new", "sky-hook", "--dir", path(&project)?])?;
    let read = |file: &str| std::fs::read_to_string(project.join(file)).with_context(|| file.to_owned());
    assert!(read("src/lib.rs")?.contains("&[\"sky-hook\"]"));
    assert!(read("README.md")?.starts_with("# sky-hook\n"));
    assert_eq!(
        read("sdk/rust/wit/policy.wit")?,
        std::fs::read_to_string(workspace().join("wit/policy.wit"))?
    );
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
        (
            ["new", "sky", "--lang", "cobol"],
            "there is no project in \"cobol\"; there are: rust, go, c, cpp, zig, python, js",
        ),
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

/// Runs `flanneld plugin componentize` on a module in text form; answers what it says, which has to be one line, and nothing is written.
fn not_componentized(module: &str, more: &[&str]) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let (file, output) = (directory.path().join("m.wasm"), directory.path().join("c.wasm"));
    std::fs::write(&file, wat::parse_str(module)?)?;
    let error = refusal(&[&["componentize", path(&file)?, "-o", path(&output)?], more].concat())?;
    assert!(!output.exists(), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    Ok(error)
}

#[test]
fn what_is_missing_to_make_a_component_is_said() -> Result<()> {
    const PLAIN: &str = "(module)";
    const WASI: &str = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"#;
    const PROGRAM: &str = r#"(module (func (export "_start")))"#;
    const FOREIGN: &str = r#"(module (import "env" "puts" (func (param i32) (result i32))))"#;
    let wit = workspace().join("wit");
    let of_ours = ["--wit", path(&wit)?, "--world", "backend"];
    let empty = tempfile::tempdir()?;
    let own = tempfile::tempdir()?;
    std::fs::write(own.path().join("one.wit"), "package a:b;\nworld one {}\nworld two {}\n")?;
    let broken = tempfile::tempdir()?;
    std::fs::write(broken.path().join("broken.wit"), "package a:b;\nworld one { impor }\n")?;
    let nowhere: &[&str] = &["--wit", "/nowhere/wit", "--world", "backend"];
    for (module, more, said) in [
        (PLAIN, &[] as &[&str], "does not say what its world is: it has no component-type section"),
        (PLAIN, &[], "--wit DIR --world NAME"),
        (PLAIN, nowhere, "--wit /nowhere/wit is not there"),
        (PLAIN, &["--wit", path(empty.path())?, "--world", "backend"], "--wit /"),
        (PLAIN, &["--wit", path(broken.path())?], "expected"),
        (PLAIN, &["--wit", path(own.path())?], "has several worlds; name one of them with --world: one, two"),
        (
            PLAIN,
            &["--wit", path(&wit)?, "--world", "frontend"],
            "the worlds of flannel:backend@0.1.0 are kernel-backend, backend",
        ),
        (
            PLAIN,
            &of_ours,
            "failed to find export of interface `flannel:backend/policy@0.1.0` function `describe`",
        ),
        (
            WASI,
            &of_ours,
            "imports wasi_snapshot_preview1: fd_write and 1 more; components have another WASI: --adapt",
        ),
        (PROGRAM, &of_ours, "is a program: it exports _start"),
        (FOREIGN, &of_ours, "module requires an import interface named `env`"),
    ] {
        let error = not_componentized(module, more)?;
        assert!(error.contains(said), "{said}: {error}");
    }
    let error = refusal(&["componentize", "m.wasm", "-o", "c.wasm", "--world", "backend"])?;
    assert!(error.contains("--wit <DIR>"), "{error}");
    Ok(())
}

#[test]
fn the_languages_are_listed_with_what_they_take_and_where_that_is() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let go = directory.path().join("go");
    std::fs::write(&go, "#!/bin/sh\n")?;
    std::fs::set_permissions(&go, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    // Not a program: nobody may run it.
    std::fs::write(directory.path().join("clang"), "")?;
    let mut list = Command::new(artifacts::flanneld()?);
    list.args(["plugin", "new", "--list"]).env_clear().env("PATH", directory.path());
    let output = list.output()?;
    let listed = text(&output.stdout);
    assert!(output.status.success(), "{listed}{}", text(&output.stderr));
    for line in [
        "rust    cargo: MISSING (Rust 1.95 or later, by rustup)".to_owned(),
        "        wasm32-unknown-unknown: MISSING (rustup target add wasm32-unknown-unknown)".to_owned(),
        format!("go      go: {}", go.display()),
        "c       clang: MISSING (clang 14 or later; Debian's clang)".to_owned(),
        "        npm: MISSING (comes with Node.js; componentize-js comes from its registry with the first build)".to_owned(),
    ] {
        assert!(listed.lines().any(|listed| listed == line), "{line}: {listed}");
    }
    Ok(())
}

#[test]
fn a_new_project_is_followed_by_the_commands_to_type_and_what_they_lack() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let project = directory.path().join("my project's");
    let shown = printed(&["new", "sky-hook", "--lang", "go", "--dir", path(&project)?])?;
    let (begin, rest) = shown.split_once("\n\n").context("a line, and the commands")?;
    assert_eq!(begin, "sky-hook is written, in go. Next:");
    let quoted = path(&project)?.replace('\'', r"'\''");
    assert!(rest.starts_with(&format!("    cd '{quoted}'\n    ./build.sh ")), "{rest}");
    assert!(rest.contains("    flanneld plugin check sky-hook.wasm --golden golden.txt\n"), "{rest}");
    assert!(rest.ends_with("\ngo: MISSING (Go 1.24 or later)\n"), "{rest}");
    let error = refusal(&["new"])?;
    assert!(error.contains("<NAME>"), "{error}");
    for (also, language) in [("golang", "go"), ("c++", "cpp"), ("py", "python"), ("javascript", "js")] {
        let project = directory.path().join(language);
        let shown = printed(&["new", "sky", "--lang", also, "--dir", path(&project)?])?;
        assert!(shown.starts_with(&format!("sky is written, in {language}. Next:")), "{shown}");
    }
    Ok(())
}

/// A daemonless `flanneld plugin dev`, and what it prints.
pub(crate) struct Developing {
    child: std::process::Child,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

impl Developing {
    fn start(project: &Path, cache: &Path) -> Result<Self> {
        Self::start_with(project, cache, &[])
    }

    /// With further arguments.
    pub(crate) fn start_with(project: &Path, cache: &Path, more: &[&str]) -> Result<Self> {
        use std::io::BufRead as _;
        let mut dev = Command::new(artifacts::flanneld()?);
        dev.args(["plugin", "dev"]).arg(project).args(more).env("FLANNELD_CACHE_DIR", cache);
        let mut child = dev.stdout(std::process::Stdio::piped()).spawn().context("cannot run flanneld")?;
        let out = child.stdout.take().context("its output")?;
        Ok(Self { child, lines: std::io::BufReader::new(out).lines() })
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ends.
    pub(crate) fn wait(&mut self) -> Result<std::process::ExitStatus> {
        self.child.wait().context("cannot wait for a child")
    }

    /// What is printed until it waits.
    pub(crate) fn until_it_waits(&mut self) -> Result<String> {
        let mut said = String::new();
        for line in self.lines.by_ref() {
            let line = line?;
            if line.starts_with("waiting for a change in ") {
                return Ok(said);
            }
            said.extend([&*line, "\n"]);
        }
        bail!("it has ended: {said}")
    }
}

impl Drop for Developing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_project_is_built_and_checked_again_when_it_changes_until_a_signal_ends_that() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let project = directory.path().join("project");
    std::fs::create_dir(&project)?;
    let source = |which: &Path| std::fs::write(project.join("which"), path(which).unwrap_or_default());
    let build = project.join("build.sh");
    std::fs::write(&build, "#!/bin/sh -e\ncp \"$(cat which)\" plugin.wasm\ntouch which\n")?;
    std::fs::set_permissions(&build, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let vxlan = artifacts::plugin("vxlan")?;
    source(&vxlan)?;
    let mut dev = Developing::start(&project, directory.path())?;
    let said = dev.until_it_waits()?;
    assert!(said.starts_with("building with ./build.sh\nok       "), "{said}");
    assert!(said.contains("\nflannel.1 "), "all that is declared: {said}");

    source(&artifacts::plugin("host-gw")?)?;
    let said = dev.until_it_waits()?;
    assert!(said.starts_with("\nwhich has changed\nbuilding with ./build.sh\n"), "{said}");
    assert!(said.contains("\n- flannel.1 ") && said.contains("\n+ no devices\n"), "{said}");

    source(Path::new("/nowhere.wasm"))?;
    let said = dev.until_it_waits()?;
    assert!(said.ends_with("\nFAILED   ./build.sh: it ended with exit status: 1\n"), "{said}");
    source(&artifacts::component("mute")?)?;
    let said = dev.until_it_waits()?;
    assert!(said.contains("FAILED   "), "{said}");
    source(&artifacts::plugin("host-gw")?)?;
    let said = dev.until_it_waits()?;
    assert!(said.ends_with("\nit declares what it declared before\n"), "by the last that went well: {said}");
    source(&vxlan)?;
    assert!(dev.until_it_waits()?.contains("\n+ flannel.1 "));

    // Who runs the tests may ignore SIGINT, and so would it.
    let id = rustix::process::Pid::from_child(&dev.child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
    let status = dev.child.wait()?;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15), "{status}");
    let error = refusal(&["dev", "/nowhere"])?;
    assert!(error.contains("/nowhere is no directory: name a project"), "{error}");
    Ok(())
}
