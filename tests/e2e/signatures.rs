//! Grants by signer: plugins start, and take over, if somebody has signed them whom the operator trusts, and otherwise not.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use flannel_lab::artifacts::{component, plugin};
use flannel_lab::registry::Registry;
use flannel_lab::{Cluster, ClusterOptions};

/// What the plugin is granted if one of these has signed it.
const GRANTS: &str = r#"
[[signer]]
name = "acme"
key = "acme.pub"

[[grant]]
signer = "acme"
name = "vxlan"
allow = ["links", "routes", "neighbours", "fdb"]
"#;

/// One node, not started yet, whose operator trusts acme, and nobody else.
fn cluster() -> Result<Cluster> {
    let mut cluster = Cluster::prepare(&ClusterOptions { nodes: 1, ..ClusterOptions::default() })?;
    for (name, algorithm) in [("acme", "EC"), ("other", "ed25519")] {
        make_key(&file(&cluster, name), algorithm)?;
    }
    std::fs::write(file(&cluster, "grants.toml"), GRANTS)?;
    let grants = file(&cluster, "grants.toml").display().to_string();
    cluster.add_arguments(&["--plugin-grants", &grants]);
    Ok(cluster)
}

fn file(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.lab().directory().join(name)
}

/// `NAME.key` and `NAME.pub`.
fn make_key(path: &Path, algorithm: &str) -> Result<()> {
    let (private, public) = (path.with_extension("key"), path.with_extension("pub"));
    let mut generate = Command::new("openssl");
    generate.args(["genpkey", "-algorithm", algorithm]);
    if algorithm == "EC" {
        generate.args(["-pkeyopt", "ec_paramgen_curve:P-256"]);
    }
    done(generate.arg("-out").arg(&private).output()?)?;
    done(
        Command::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(&private)
            .arg("-out")
            .arg(&public)
            .output()?,
    )?;
    Ok(())
}

/// What a command prints. The error is what it says.
fn done(output: Output) -> Result<String> {
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// `flanneld plugin …` on the node. A word that is a file's name in the lab's directory is given as a path.
fn flanneld(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let mut command = cluster.options().command(cluster.node(0));
    command.arg("plugin");
    for argument in arguments {
        let there = file(cluster, argument);
        if there.is_file() {
            command.arg(there)
        } else {
            command.arg(argument)
        };
    }
    done(command.env("FLANNELD_CACHE_DIR", file(cluster, "tools-cache")).output()?)
}

/// A plugin that has no grants by itself, as a file in the lab's directory.
fn unsigned(cluster: &Cluster, name: &str) -> Result<PathBuf> {
    let path = file(cluster, name);
    std::fs::copy(component("vxlan-next")?, &path)?;
    Ok(path)
}

fn start_with(cluster: &mut Cluster, plugin: &Path) -> Result<()> {
    let options = cluster.options().clone().plugin(plugin.to_owned());
    cluster.set_options(options);
    cluster.launch(0)?.wait_ready()?;
    Ok(())
}

/// The daemon does not start with the plugin, and says why in one line.
fn is_refused_at_start(cluster: &mut Cluster, plugin: &Path, said: &str) -> Result<()> {
    let options = cluster.options().clone().plugin(plugin.to_owned());
    cluster.set_options(options);
    let daemon = cluster.launch(0)?;
    assert!(!daemon.wait_exit()?.success());
    let errors = daemon.log().of_level("ERROR");
    let [error] = &errors[..] else { panic!("one error line: {}", daemon.log().tail()) };
    let asks = "it asks for fdb,links,neighbours,routes, which it is not granted";
    assert!(error.message().contains(asks) && error.message().contains(said), "{}", error.raw());
    assert!(!error.message().contains('\n'), "{}", error.raw());
    Ok(())
}

fn signers(cluster: &Cluster) -> Result<String> {
    let signers = cluster.status(0)?["plugin"]["signers"].clone();
    Ok(signers.as_array().context("signers")?.iter().map(ToString::to_string).collect())
}

#[test]
fn a_node_starts_with_what_its_signer_has_signed_and_with_nothing_else() -> Result<()> {
    let mut cluster = cluster()?;
    let plugin = unsigned(&cluster, "p.wasm")?;
    is_refused_at_start(&mut cluster, &plugin, "(it has no signature: there is neither ")?;
    flanneld(&cluster, &["sign", "p.wasm", "--key", "other.key"])?;
    is_refused_at_start(
        &mut cluster,
        &plugin,
        "(its signature is by none of the keys given, or of other bytes)",
    )?;
    flanneld(&cluster, &["sign", "p.wasm", "--key", "acme.key"])?;
    start_with(&mut cluster, &plugin)?;
    assert!(signers(&cluster)?.contains("acme (key sha256:"), "{}", signers(&cluster)?);
    let loaded = cluster.daemon(0)?.log().find("plugin loaded").context("a line")?;
    assert!(loaded.raw().contains("acme (key sha256:"), "{}", loaded.raw());
    let warnings = cluster.daemon(0)?.log().of_level("WARN");
    assert!(warnings.iter().all(|line| !line.message().contains("calls itself")), "{warnings:?}");
    cluster.take_daemon(0)?.terminate()?;
    // A component that the signature is not of.
    std::fs::copy(component("vxlan-direct")?, &plugin)?;
    is_refused_at_start(&mut cluster, &plugin, "or of other bytes)")
}

#[test]
fn only_what_the_signer_has_signed_takes_over() -> Result<()> {
    let mut cluster = cluster()?;
    cluster.bring_up()?;
    let next = unsigned(&cluster, "next.wasm")?;
    let before = cluster.state(0)?;
    for (key, said) in [(None, "(it has no signature: "), (Some("other.key"), "by none of the keys given")] {
        if let Some(key) = key {
            flanneld(&cluster, &["sign", "next.wasm", "--key", key])?;
        }
        let error = format!("{:#}", cluster.swap(0, &next).err().context("it was swapped")?);
        assert!(error.contains("the one before goes on") && error.contains(said), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert_eq!(before.difference(&cluster.state(0)?), None);
    }
    flanneld(&cluster, &["sign", "next.wasm", "--key", "acme.key"])?;
    assert_eq!(cluster.swap(0, &next)?["version"], "9.0.0");
    assert!(signers(&cluster)?.contains("acme"), "{}", signers(&cluster)?);
    assert_eq!(cluster.swap(0, &plugin("vxlan")?)?["version"], "0.1.0");
    assert_eq!(
        cluster.status(0)?["plugin"]["signers"],
        serde_json::Value::Null,
        "the built-in plugin has none"
    );
    Ok(())
}

#[test]
fn a_grant_by_name_alone_is_warned_of_once_for_each_load() -> Result<()> {
    let mut cluster = cluster()?;
    let plugin = unsigned(&cluster, "p.wasm")?;
    std::fs::write(file(&cluster, "grants.toml"), GRANTS.replace("signer = \"acme\"\n", ""))?;
    start_with(&mut cluster, &plugin)?;
    let warnings = cluster.daemon(0)?.log().of_level("WARN");
    let by_name: Vec<_> =
        warnings.iter().filter(|line| line.message().contains("calls itself \"vxlan\"")).collect();
    let [warning] = &by_name[..] else { panic!("one warning: {warnings:?}") };
    assert!(
        warning.message().contains("grant 1") && warning.message().contains("sha256:"),
        "{}",
        warning.raw()
    );
    Ok(())
}

#[test]
fn what_is_pushed_with_a_signature_starts_from_its_registry_and_without_it() -> Result<()> {
    let mut cluster = cluster()?;
    let registry = Registry::start(cluster.node(0).namespace(), &component("vxlan-next")?)?;
    let tag = registry.tag();
    is_refused_at_start(&mut cluster, Path::new(&tag), "(it has no signature in the registry)")?;
    unsigned(&cluster, "p.wasm")?;
    let pinned = flanneld(&cluster, &["push", "p.wasm", &tag, "--sign", "acme.key"])?;
    let error =
        flanneld(&cluster, &["verify", &pinned, "--key", "other.pub"]).expect_err("it is another key");
    assert!(error.to_string().contains("none of the keys given"), "{error:#}");
    let verified = flanneld(&cluster, &["verify", &tag, "--key", "acme.pub"])?;
    assert!(verified.starts_with(&format!("{pinned} is signed by ")), "{verified}");
    start_with(&mut cluster, Path::new(&tag))?;
    assert!(signers(&cluster)?.contains("acme"), "{}", signers(&cluster)?);
    cluster.take_daemon(0)?.kill9();
    drop(registry);
    for reference in [&tag, &pinned] {
        start_with(&mut cluster, Path::new(reference))?;
        assert!(signers(&cluster)?.contains("acme"), "{}", signers(&cluster)?);
        cluster.take_daemon(0)?.kill9();
    }
    // What is kept is verified each time: with another key there is no signer any more.
    std::fs::copy(file(&cluster, "other.pub"), file(&cluster, "acme.pub"))?;
    is_refused_at_start(&mut cluster, Path::new(&tag), "by none of the keys given")
}

#[test]
fn a_tag_that_has_moved_back_is_in_log_and_status() -> Result<()> {
    let mut cluster = cluster()?;
    let registry = Registry::start(cluster.node(0).namespace(), &component("vxlan-next")?)?;
    let tag = registry.tag();
    unsigned(&cluster, "p.wasm")?;
    let newer = flanneld(&cluster, &["push", "p.wasm", &tag, "--sign", "acme.key"])?;
    start_with(&mut cluster, Path::new(&tag))?;
    assert!(cluster.status(0)?["plugin"]["moved"].is_null());
    // By the rules for versions 9.0.0-direct comes before 9.0.0.
    std::fs::copy(component("vxlan-direct")?, file(&cluster, "p.wasm"))?;
    let older = flanneld(&cluster, &["push", "p.wasm", &tag, "--sign", "acme.key"])?;
    let digest =
        |reference: &str| reference.rsplit_once('@').map(|(_, digest)| digest.to_owned()).context("a digest");
    let said = format!("moved from 9.0.0 ({}) back to 9.0.0-direct ({})", digest(&newer)?, digest(&older)?);
    assert_eq!(cluster.swap(0, Path::new(&tag))?["version"], "9.0.0-direct");
    assert_eq!(cluster.status(0)?["plugin"]["moved"], said);
    let warning = cluster.daemon(0)?.wait_log("that the tag has moved", |line| {
        line.level() == "WARN" && line.message().contains(&said)
    })?;
    assert!(warning.message().contains(&tag), "{}", warning.raw());
    let copy = file(&cluster, "pulled.wasm");
    std::fs::write(&copy, "")?;
    let pulled = flanneld(&cluster, &["pull", &tag, "--output", "pulled.wasm", "--key", "acme.pub"])?;
    assert_eq!(pulled, older);
    assert_eq!(std::fs::read(copy)?, std::fs::read(component("vxlan-direct")?)?);
    Ok(())
}
