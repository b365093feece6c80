//! Backends in other languages than Rust: the SDKs' examples connect pods, and say why where they cannot. What their toolchains
//! import of WASI lets them do nothing.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use flannel_lab::store::StoredLease;
use flannel_lab::{Backend, Cluster, ClusterOptions, artifacts, wait};

use super::built::Built;

impl Built {
    /// A cluster whose backend it is. The lab waits for what host-gw would need.
    fn prepare(&self, nodes: usize, backend: &str, ipv6: bool) -> Result<Cluster> {
        let config = Backend::HostGw.config(ipv6).replace(Backend::HostGw.name(), backend);
        let plugin = Some(self.component.clone());
        let options = ClusterOptions { nodes, config, plugin, ..ClusterOptions::of(Backend::HostGw, ipv6) };
        let mut cluster = Cluster::prepare(&options)?;
        cluster.set_options(cluster.options().clone().cache(&self.cache));
        Ok(cluster)
    }
}

/// The `Backend.Type` of all examples.
const EXAMPLE: &str = "example-host-gw";

fn example(language: &str) -> Result<Option<Cluster>> {
    let Some(built) = Built::find(&format!("{language}-host-gw"))? else { return Ok(None) };
    let mut cluster = built.prepare(2, EXAMPLE, true)?;
    cluster.bring_up()?;
    Ok(Some(cluster))
}

/// Small and full-size packets of both families pass both ways.
fn pods_reach_each_other(language: &str) -> Result<()> {
    let Some(cluster) = example(language)? else { return Ok(()) };
    let (one, other) = (cluster.pod(0)?, cluster.pod(1)?);
    one.reaches(other)?;
    other.reaches(one)?;
    one.is_told_what_is_too_large(other)?;
    let env = cluster.node(0).subnet_env()?.context("a subnet file")?;
    assert_eq!(env.mtu, 1500);
    assert!(cluster.lease(0)?.value.contains(&format!(r#""BackendType":"{EXAMPLE}""#)));
    Ok(())
}

#[test]
fn with_a_backend_in_python_pods_reach_each_other() -> Result<()> {
    pods_reach_each_other("python")
}

#[test]
fn with_a_backend_in_javascript_pods_reach_each_other() -> Result<()> {
    pods_reach_each_other("js")
}

#[test]
fn with_a_backend_in_c_pods_reach_each_other() -> Result<()> {
    pods_reach_each_other("c")
}

#[test]
fn with_a_backend_in_cpp_pods_reach_each_other() -> Result<()> {
    pods_reach_each_other("cpp")
}

#[test]
fn with_a_backend_in_zig_pods_reach_each_other() -> Result<()> {
    pods_reach_each_other("zig")
}

#[test]
fn with_a_backend_in_go_pods_reach_each_other() -> Result<()> {
    pods_reach_each_other("go")
}

/// The conformance kit has nothing to find, and what `plugin new` writes is the example under another name.
fn the_example_conforms_and_is_what_a_project_begins_with(
    language: &str,
    source: &str,
    wit: &str,
) -> Result<()> {
    let Some(built) = Built::find(&format!("{language}-host-gw"))? else { return Ok(()) };
    let output = built.plugin("check")?.output().context("cannot run flanneld plugin check")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}");
    // JavaScript's garbage is what is known of; see docs/plugins.md.
    assert!(language == "js" || !said.contains("WARNING"), "{said}");
    let directory = tempfile::tempdir()?;
    let project = directory.path().join("project");
    let mut new = Command::new(artifacts::flanneld()?);
    new.args(["plugin", "new", "my-net", "--lang", language, "--dir"]).arg(&project);
    ensure!(new.status()?.success(), "flanneld plugin new");
    let example = artifacts::workspace().join("sdk").join(language).join("example").join(source);
    let named = std::fs::read_to_string(example)?.replace(EXAMPLE, "my-net");
    assert_eq!(std::fs::read_to_string(project.join(source))?, named);
    assert!(named.contains("my-net"));
    for contract in ["types.wit", "capabilities.wit", "cloud.wit", "policy.wit"] {
        let file = project.join(wit).join(contract);
        assert_eq!(std::fs::read(file)?, std::fs::read(artifacts::workspace().join("wit").join(contract))?);
    }
    Ok(())
}

#[test]
fn the_example_in_python_conforms_and_is_what_a_project_begins_with() -> Result<()> {
    the_example_conforms_and_is_what_a_project_begins_with("python", "policy.py", "wit/deps/flannel-backend")
}

#[test]
fn the_example_in_javascript_conforms_and_is_what_a_project_begins_with() -> Result<()> {
    the_example_conforms_and_is_what_a_project_begins_with("js", "policy.js", "wit/deps/flannel-backend")
}

/// Its collector begins at 77 MiB, after some 175,000 calls, and does so before what a plugin may have is over.
#[test]
fn in_a_long_run_the_example_in_javascript_is_not_started_afresh() -> Result<()> {
    let Some(built) = Built::find("js-host-gw")? else { return Ok(()) };
    let mut check = built.plugin("check")?;
    check.args(["--only", "limits-long-run", "--calls", "200000"]);
    let output = check.output().context("cannot run flanneld plugin check")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && !said.contains("WARNING"), "{said}");
    Ok(())
}

#[test]
fn the_example_in_c_conforms_and_is_what_a_project_begins_with() -> Result<()> {
    the_example_conforms_and_is_what_a_project_begins_with("c", "policy.c", "wit")
}

#[test]
fn the_example_in_cpp_conforms_and_is_what_a_project_begins_with() -> Result<()> {
    the_example_conforms_and_is_what_a_project_begins_with("cpp", "policy.cpp", "wit")
}

#[test]
fn the_example_in_zig_conforms_and_is_what_a_project_begins_with() -> Result<()> {
    the_example_conforms_and_is_what_a_project_begins_with("zig", "policy.zig", "wit")
}

#[test]
fn the_example_in_go_conforms_and_is_what_a_project_begins_with() -> Result<()> {
    the_example_conforms_and_is_what_a_project_begins_with("go", "policy.go", "wit")
}

/// An option is read by its name in any case and whether it is there or not, and a wrong one is refused with its value and what would be
/// right.
fn options_are_read(language: &str) -> Result<()> {
    let Some(built) = Built::find(&format!("{language}-host-gw"))? else { return Ok(()) };
    let leases = artifacts::workspace().join("sdk").join(language).join("example/leases.json");
    let says = |options: &str| -> Result<String> {
        let mut run = built.plugin("run")?;
        let backend = format!(r#"{{"Type":"{EXAMPLE}"{options}}}"#);
        let output = run.arg("--leases").arg(&leases).args(["--backend", &backend]).output()?;
        Ok([output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat())
    };
    for (options, mtu) in [
        ("", 1500),
        (r#","MTU":null"#, 1500),
        (r#","MTU":1400"#, 1400),
        (r#","mtu":1280,"Other":{"MTU":[1]}"#, 1280),
        (r#","M\u0054U":1401"#, 1401),
        (r#","MTU":65535"#, 1500),
    ] {
        let said = says(options)?;
        assert!(said.contains(&format!("pods have an MTU of {mtu}\n")), "{options}: {said}");
    }
    let long = format!("\"{}\"", "\u{e9}".repeat(200));
    for wrong in
        [&long, r#""1400""#, "1279", "65536", "-1", "1400.5", "true", "[]", "{}", "99999999999999999999"]
    {
        let said = says(&format!(r#","MTU":{wrong}"#))?;
        assert!(said.contains("register: MTU: "), "{wrong}: {said}");
        assert!(said.contains(" is not a whole number from 1280 to 65535"), "{wrong}: {said}");
    }
    Ok(())
}

#[test]
fn a_backend_in_python_reads_its_options() -> Result<()> {
    options_are_read("python")
}

#[test]
fn a_backend_in_javascript_reads_its_options() -> Result<()> {
    options_are_read("js")
}

#[test]
fn a_backend_in_c_reads_its_options() -> Result<()> {
    options_are_read("c")
}

#[test]
fn a_backend_in_cpp_reads_its_options() -> Result<()> {
    options_are_read("cpp")
}

#[test]
fn a_backend_in_zig_reads_its_options() -> Result<()> {
    options_are_read("zig")
}

#[test]
fn a_backend_in_go_reads_its_options() -> Result<()> {
    options_are_read("go")
}

/// Peers that are not on the link, of either family, are named with the reason, and so are those of other backends.
fn who_cannot_be_reached_is_named(language: &str) -> Result<()> {
    let Some(cluster) = example(language)? else { return Ok(()) };
    let lease = |third: u8, public: &str, v6: &str, backend: &str| StoredLease {
        key: format!("10.5.{third}.0-24&fc00:5:0:{third}::-64"),
        value: format!(r#"{{"PublicIP":"{public}","PublicIPv6":"{v6}","BackendType":"{backend}"}}"#),
    };
    let before = cluster.state(0)?;
    let near = cluster.node(1).address();
    cluster.store().put(&lease(250, "203.0.113.9", "2001:db8::9", EXAMPLE))?;
    cluster.store().put(&lease(251, &near.to_string(), "2001:db8:1:2:3:4:5:9", EXAMPLE))?;
    cluster.store().put(&lease(252, "203.0.113.9", "2001:db8::9", "vxlan"))?;
    let problems = |third: u8| -> Result<Option<String>> {
        let status = cluster.status(0)?;
        let peers = status["peers"].as_array().cloned().unwrap_or_default();
        let subnet = format!("10.5.{third}.0/24");
        Ok(peers.iter().find(|peer| peer["subnets"][0] == *subnet).map(|peer| peer["problems"].to_string()))
    };
    for (third, reason) in [
        (250, "203.0.113.9 is not on the link of eth0: this backend needs all nodes on one link"),
        (251, "2001:db8:1:2:3:4:5:9 is not on the link of eth0: this backend needs all nodes on one link"),
    ] {
        wait::until_true("the status says what is wrong with the peer", || {
            Ok(problems(third)?.is_some_and(|said| said.contains(reason)))
        })?;
    }
    wait::until_true("the peer of another backend is known", || Ok(problems(252)?.is_some()))?;
    let expected = format!(r#"["its backend is vxlan, this node's is {EXAMPLE}: not served"]"#);
    assert_eq!(problems(252)?, Some(expected));
    assert_eq!(before.difference(&cluster.state(0)?), None, "no entries for any of them");
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn a_backend_in_python_names_who_cannot_be_reached() -> Result<()> {
    who_cannot_be_reached_is_named("python")
}

#[test]
fn a_backend_in_javascript_names_who_cannot_be_reached() -> Result<()> {
    who_cannot_be_reached_is_named("js")
}

#[test]
fn a_backend_in_c_names_who_cannot_be_reached() -> Result<()> {
    who_cannot_be_reached_is_named("c")
}

#[test]
fn a_backend_in_cpp_names_who_cannot_be_reached() -> Result<()> {
    who_cannot_be_reached_is_named("cpp")
}

#[test]
fn a_backend_in_zig_names_who_cannot_be_reached() -> Result<()> {
    who_cannot_be_reached_is_named("zig")
}

#[test]
fn a_backend_in_go_names_who_cannot_be_reached() -> Result<()> {
    who_cannot_be_reached_is_named("go")
}

#[test]
fn a_component_that_looks_around_in_the_daemon_finds_nothing_and_is_heard_in_the_log() -> Result<()> {
    let Some(built) = Built::find("snoop")? else { return Ok(()) };
    let mut cluster = built.prepare(1, "snoop", false)?;
    let daemon = cluster.launch(0)?;
    daemon.wait_ready()?;
    let log = daemon.log();
    let line = log.find("printed to standard output").context(log.tail())?;
    assert_eq!((line.field("plugin"), line.field("function")), (&"snoop".into(), &"register".into()));
    let said: Vec<String> = log.lines().iter().map(|line| line.message().to_owned()).collect();
    let failed = said.iter().filter(|line| line.contains(": failed: ")).count();
    assert_eq!(failed, 12, "{said:#?}");
    assert!(!said.iter().any(|line| line.contains(": got ")), "{said:#?}");
    for empty in ["environment: {}", "arguments: []", "standard input: ''"] {
        assert!(said.iter().any(|line| line == empty), "{empty}: {said:#?}");
    }
    Ok(())
}
