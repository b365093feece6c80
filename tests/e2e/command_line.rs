//! What the daemon's command line takes, says and refuses.

use std::process::{Command, Output};

use anyhow::{Context, Result};
use flannel_lab::{Lab, Underlay, artifacts};

fn flanneld(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(artifacts::flanneld()?);
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command.output().context("cannot run flanneld")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_version_is_printed_bare() -> Result<()> {
    for flag in ["--version", "-version"] {
        let output = flanneld(&[flag], &[])?;
        assert!(output.status.success());
        let version = text(&output.stdout);
        assert!(version.starts_with('v') && version.trim_end().split('.').count() == 3, "{version:?}");
    }
    Ok(())
}

#[test]
fn the_help_names_every_flag_with_its_variable() -> Result<()> {
    for flag in ["-h", "-help", "--help"] {
        let output = flanneld(&[flag], &[("FLANNELD_ETCD_PASSWORD", "canary")])?;
        assert!(output.status.success());
        let help = text(&output.stdout);
        for part in ["--iface-can-reach", "FLANNELD_IFACE_CAN_REACH", "--ip-masq", "--plugin"] {
            assert!(help.contains(part), "{part} is not in:\n{help}");
        }
        assert!(!help.contains("canary"));
    }
    Ok(())
}

#[test]
fn wrong_flags_and_values_end_with_an_error_that_names_them() -> Result<()> {
    for (arguments, variables, said) in [
        (&["--nope"][..], &[][..], "--nope"),
        (&["-ip-masq", "false"], &[], "did you mean --ip-masq=false?"),
        (&["--iptables-resync", "0"], &[], "--iptables-resync"),
        (&["--public-ip", "fd77::1"], &[], "--public-ip"),
        (&["--store=consul"], &[], "`etcd`, `file:DIR` or `kube`"),
        (&["--plugin=oci://r/p"], &[], "behind the repository belongs a tag or a digest; a plugin is FILE"),
        (&["plugin", "inspect", "https://r/p.wasm"], &[], "of URLs only oci:// is taken"),
        (&["plugin", "push", "a.wasm", "b.wasm"], &[], "this is a file, not a registry"),
        (&["", "--ip-masq"], &[], "an argument is empty"),
        (&["serve"], &[], "\"serve\" is neither a flag nor a command"),
        (&["--v=4", "status"], &[], "the command status comes before all flags"),
        (&[], &[("FLANNELD_SUBNET_LEASE_RENEW_MARGIN", "abc")], "(from FLANNELD_SUBNET_LEASE_RENEW_MARGIN)"),
        (&[], &[("FLANNELD_IPTABLES_FORWARD_RULES", "yes")], "(from FLANNELD_IPTABLES_FORWARD_RULES)"),
        (&["--kube-subnet-mgr", "--store=etcd"], &[], "--kube-subnet-mgr keeps leases in Kubernetes"),
        (&["--kube-subnet-mgr", "--kube-annotation-prefix=a b"], &[], "--kube-annotation-prefix"),
    ] {
        let output = flanneld(arguments, variables)?;
        let error = text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?} {variables:?}");
        assert!(error.contains(said), "{said:?} is not in: {error}");
    }
    Ok(())
}

#[test]
fn the_command_line_comes_before_the_environment_and_empty_values_count_as_none() -> Result<()> {
    // The store is refused by its name, which shows which one counted.
    let refused = |arguments: &[&str], variables: &[(&str, &str)]| -> Result<String> {
        Ok(text(&flanneld(arguments, variables)?.stderr))
    };
    let from_environment = refused(&[], &[("FLANNELD_STORE", "file:/nowhere/env")])?;
    assert!(from_environment.contains("/nowhere/env"), "{from_environment}");
    let from_line = refused(&["--store=file:/nowhere/line"], &[("FLANNELD_STORE", "file:/nowhere/env")])?;
    assert!(from_line.contains("/nowhere/line: it does not exist"), "{from_line}");
    let empty = refused(&["--store=file:/nowhere", "--public-ip="], &[("FLANNELD_IPTABLES_RESYNC", "")])?;
    assert!(empty.contains("/nowhere: it does not exist"), "{empty}");
    Ok(())
}

#[test]
fn a_password_is_not_logged() -> Result<()> {
    let output = flanneld(&["--store=file:/nowhere", "--etcd-password=canary", "--log-level=trace"], &[])?;
    let log = text(&output.stderr);
    assert!(log.contains("--etcd-password=(hidden)") && !log.contains("canary"), "{log}");
    Ok(())
}

#[test]
fn docker_options_are_those_of_upstreams_script() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (subnet, docker) = (directory.path().join("subnet.env"), directory.path().join("docker.env"));
    std::fs::write(
        &subnet,
        "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n",
    )?;
    let files = [subnet.to_str().context("text")?, docker.to_str().context("text")?];
    let output = flanneld(&["docker-opts", "-f", files[0], "-d", files[1]], &[])?;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let expected = "DOCKER_OPT_BIP=\"--bip=10.5.72.1/24\"\nDOCKER_OPT_IPMASQ=\"--ip-masq=false\"\nDOCKER_OPT_MTU=\"--mtu=1450\"\nDOCKER_OPTS=\" --bip=10.5.72.1/24 --ip-masq=false --mtu=1450\"\n";
    assert_eq!(std::fs::read_to_string(&docker)?, expected);
    let output = flanneld(&["docker-opts", "-f", files[0], "-d", files[1], "-c", "-m", "-k", "OPTS"], &[])?;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_to_string(&docker)?, "OPTS=\" --bip=10.5.72.1/24 --mtu=1450\"\n");
    let own = [("DOCKER_NETWORK_OPTIONS", "--debug"), ("DOCKER_OPT_LOG", "--log-driver=journald")];
    let arguments = ["docker-opts", "-f", files[0], "-d", files[1], "-c", "-k", "DOCKER_NETWORK_OPTIONS"];
    let output = flanneld(&arguments, &own)?;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let expected = "DOCKER_NETWORK_OPTIONS=\"--debug  --bip=10.5.72.1/24 --ip-masq=false --log-driver=journald --mtu=1450\"\n";
    assert_eq!(std::fs::read_to_string(&docker)?, expected);
    let output = flanneld(&["docker-opts", "-f", "/nowhere/subnet.env", "-d", files[1]], &[])?;
    assert!(!output.status.success() && text(&output.stderr).contains("/nowhere/subnet.env"));
    Ok(())
}

#[test]
fn docker_options_for_a_subnet_that_is_routed_elsewhere_end_with_an_error() -> Result<()> {
    let lab = Lab::new(1, Underlay::default())?;
    let (node, subnet) = (lab.node(0), lab.directory().join("subnet.env"));
    std::fs::write(&subnet, "FLANNEL_SUBNET=10.5.72.1/24\n")?;
    let run = || -> Result<Output> {
        let mut command = node.namespace().command(artifacts::flanneld()?);
        command.arg("docker-opts").arg("-f").arg(&subnet).arg("-d").arg(lab.directory().join("docker.env"));
        Ok(command.output()?)
    };
    node.ip("route add 10.5.73.0/24 via 192.168.77.200 dev eth0")?;
    let output = run()?;
    assert!(output.status.success(), "{}", text(&output.stderr));
    node.ip("route add 10.5.72.0/24 via 192.168.77.200 dev eth0")?;
    let output = run()?;
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("10.5.72.0/24, via 192.168.77.200"), "{said}");
    Ok(())
}

#[test]
fn a_password_in_an_endpoint_is_not_shown() -> Result<()> {
    for endpoint in ["ftp://u:canary@h:2379", "http://u:canary@h:2379/x"] {
        let directory = tempfile::tempdir()?;
        let socket = format!("--control-socket={}", directory.path().join("socket").display());
        let output = flanneld(&["--etcd-endpoints", endpoint, &socket, "--log-level=trace"], &[])?;
        let log = text(&output.stderr);
        assert!(!output.status.success() && log.contains("(hidden)@h:2379"), "{log}");
        assert!(!log.contains("canary"), "{log}");
    }
    Ok(())
}

#[test]
fn completions_and_manual_come_from_the_same_definition() -> Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&flanneld(&["completions", shell], &[])?.stdout);
        assert!(script.contains("iface-can-reach"), "{shell}");
    }
    let manual = text(&flanneld(&["man"], &[])?.stdout);
    assert!(manual.contains(".TH flanneld") && manual.contains("iface\\-can\\-reach"), "{manual}");
    Ok(())
}

#[test]
fn a_plugin_is_shown_with_what_it_asks_for() -> Result<()> {
    let file = artifacts::plugin("host-gw")?;
    let cache = tempfile::tempdir()?;
    let place = cache.path().display().to_string();
    let variables = [("FLANNELD_CACHE_DIR", place.as_str())];
    let output = flanneld(&["plugin", "inspect", &file.to_string_lossy(), "--json"], &variables)?;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let plugin = &shown[0];
    assert_eq!((&plugin["name"], &plugin["backend_types"][0]), (&"host-gw".into(), &"host-gw".into()));
    assert_eq!(plugin["size"], std::fs::metadata(&file)?.len());
    assert_eq!(plugin["digest"].as_str().map(str::len), Some(64));
    let imports: Vec<&str> = plugin["imports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|import| import["interface"].as_str())
        .collect();
    assert!(imports.contains(&"routes") && !imports.contains(&"fdb"), "{imports:?}");

    let output = flanneld(&["plugin", "inspect"], &[])?;
    let built_in = text(&output.stdout);
    for name in ["vxlan", "host-gw", "alloc", "ipip", "wireguard", "udp"] {
        assert!(
            built_in.contains(&format!("source        built-in {name}\n")),
            "{name} is not in:\n{built_in}"
        );
    }
    let output = flanneld(&["plugin", "inspect", "/dev/null"], &variables)?;
    assert!(!output.status.success() && text(&output.stderr).contains("/dev/null"));
    Ok(())
}
