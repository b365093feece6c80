//! What people apply, applied to a real API server by the real `kubectl`; and what the admission policy then permits whom.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use flannel_lab::control_plane::client::{Client, Patch};
use flannel_lab::control_plane::{self, ControlPlane, Identity, Mode};
use flannel_lab::{Lab, Underlay, wait};
use serde_json::{Value, json};

use crate::objects::Objects;
use crate::workload::{containers, init_containers};
use crate::{render, shapes, tools, workspace};

/// A control plane without anything of flannel's.
struct Cluster {
    // Before the lab, whose directory it writes to.
    plane: ControlPlane,
    lab: Lab,
}

impl Cluster {
    /// Starts one; none, and the test has said so: it cannot be had on this machine.
    fn start() -> Result<Option<Self>> {
        let missing = control_plane::missing()?.map_or_else(tools::missing, |reason| Ok(Some(reason)))?;
        if let Some(reason) = missing {
            flannel_test_support::skip(reason);
            return Ok(None);
        }
        let lab = Lab::new(1, Underlay::default())?;
        Ok(Some(Self { plane: ControlPlane::start(&lab, Mode::Dual)?, lab }))
    }

    /// `kubectl`, as the administrator, on a node.
    fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        let home = self.lab.directory();
        let kubeconfig = home.join("admin.kubeconfig");
        let token = Identity::Admin.token();
        std::fs::write(
            &kubeconfig,
            self.plane.kubeconfig(self.plane.address(), token.as_deref()).to_string(),
        )?;
        let mut command: Command = self.lab.node(0).namespace().command(tools::program("kubectl"));
        command.args(arguments).env("KUBECONFIG", kubeconfig).env("HOME", home);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "kubectl {arguments:?}: {said}");
        Ok(String::from_utf8(output.stdout)? + &said)
    }

    fn apply(&self, objects: &Objects) -> Result<String> {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects.0 });
        self.kubectl(&["apply", "-f", "-"], &list.to_string())
    }

    fn apply_file(&self, name: &str) -> Result<String> {
        let file = workspace().join("deploy/kubernetes").join(name);
        self.kubectl(&["apply", "-f", file.to_str().context("a path in UTF-8")?], "")
    }
}

fn shape(name: &str) -> Result<shapes::Shape> {
    shapes::ALL.iter().find(|source| source.name == name).context("a shape")?.load()
}

#[test]
fn each_manifest_can_be_applied_over_upstreams_with_the_same_selector_and_not_over_the_other() -> Result<()> {
    let Some(cluster) = Cluster::start()? else { return Ok(()) };
    cluster.kubectl(&["create", "namespace", "kube-flannel"], "")?;
    for (upstream, ours, other) in [
        ("documentation", "flannel.yml", "flannel-release.yml"),
        ("release", "flannel-release.yml", "flannel.yml"),
    ] {
        cluster.apply(&shape(upstream)?.objects)?;
        let error = cluster.apply_file(other).err().context("refused")?.to_string();
        assert!(error.contains("field is immutable"), "{error}");
        cluster.apply_file(ours)?;
        let daemon_set = cluster.kubectl(
            &["get", "daemonset", "kube-flannel-ds", "--namespace", "kube-flannel", "--output", "json"],
            "",
        )?;
        let daemon_set: Value = serde_json::from_str(&daemon_set)?;
        let pod = &daemon_set["spec"]["template"]["spec"];
        let names = |list: &Value| -> Vec<String> {
            let all = list.as_array().into_iter().flatten();
            all.filter_map(|it| it["name"].as_str().map(str::to_owned)).collect()
        };
        assert_eq!(names(&pod["initContainers"]), ["install-cni-plugin"], "nothing of upstream's is left");
        assert_eq!(names(&pod["containers"][0]["env"]), ["NODE_NAME", "POD_NAME", "POD_NAMESPACE"]);
        assert_eq!(pod["containers"][0]["image"], "registry.example.com/flanneld:0.1.0");
        assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]));
        cluster.kubectl(&["delete", "daemonset", "kube-flannel-ds", "--namespace", "kube-flannel"], "")?;
    }
    Ok(())
}

#[test]
fn the_api_server_takes_what_the_chart_renders_and_every_component() -> Result<()> {
    let Some(cluster) = Cluster::start()? else { return Ok(()) };
    let namespace = json!({ "create": true });
    let on = json!({ "enabled": true });
    for values in [
        json!({ "namespace": namespace }),
        json!({ "namespace": namespace, "flannel": { "backend": "udp" } }),
        json!({ "namespace": namespace, "flowSchema": on, "admissionPolicy": on, "netpol": on, "flannel": {
            "plugins": [{ "plugin": "/opt/my-net.wasm", "grant": { "name": "my-net", "allow": ["links"] } }],
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "10%" } },
            "labels": { "team": "net" },
        }}),
    ] {
        let said = cluster.apply(&render::templated(&values.to_string())?)?;
        assert!(!said.contains("Warning"), "{said}");
    }
    for components in [&["host-gw"][..], &["wireguard"], &["udp"], &["dual-stack"], &["ipv6"]] {
        cluster.apply(&render::with_components(components)?).with_context(|| format!("{components:?}"))?;
    }
    Ok(())
}

#[test]
fn kubectl_set_image_puts_the_image_into_all_of_flannels_containers_of_every_shape() -> Result<()> {
    const OURS: &str = "registry.example.com/flanneld:0.1.0";
    let Some(cluster) = Cluster::start()? else { return Ok(()) };
    cluster.kubectl(&["create", "namespace", "kube-flannel"], "")?;
    for source in shapes::ALL.iter().filter(|source| source.network_config.is_none()) {
        let shape = source.load()?;
        cluster.apply(&shape.objects).context(source.name)?;
        let metadata = &shape.daemon_set()?["metadata"];
        let text = |member: &str| metadata[member].as_str().with_context(|| format!("no {member}"));
        let (name, namespace) = (format!("daemonset/{}", text("name")?), text("namespace")?);
        let images: Vec<String> =
            shape.flannels()?.iter().map(|container| format!("{}={OURS}", container.name)).collect();
        let mut set = vec!["set", "image", &name, "--namespace", namespace];
        set.extend(images.iter().map(String::as_str));
        cluster.kubectl(&set, "").context(source.name)?;
        let now = cluster.kubectl(&["get", &name, "--namespace", namespace, "--output", "json"], "")?;
        let now: Value = serde_json::from_str(&now)?;
        let wanted = shape.clone().with_image(OURS)?;
        let of = |daemon_set: &Value| {
            let mut all = init_containers(daemon_set)?;
            all.extend(containers(daemon_set)?);
            Ok::<_, anyhow::Error>(all)
        };
        assert_eq!(of(&now)?, of(wanted.daemon_set()?)?, "{}", source.name);
        cluster.kubectl(&["delete", &name, "--namespace", namespace], "")?;
    }
    Ok(())
}

/// What a daemon writes, and what it should not.
fn annotations(pairs: &[(&str, Option<&str>)]) -> Value {
    let all: serde_json::Map<_, _> =
        pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    json!({ "metadata": { "annotations": all } })
}

fn condition(kind: &str) -> Value {
    let time = "2026-01-01T00:00:00Z";
    json!({ "status": { "conditions": [{
        "type": kind, "status": "False", "lastHeartbeatTime": time, "lastTransitionTime": time,
        "reason": "FlannelIsUp", "message": "Flannel is running on this node",
    }] } })
}

fn patch(client: &Client, node: &str, body: &Value) -> Result<(u16, String)> {
    let answer = client.patch(&format!("/api/v1/nodes/{node}/status"), Patch::StrategicMerge, body)?;
    let message = answer.json()?["message"].as_str().unwrap_or_default().to_owned();
    Ok((answer.status, message))
}

#[test]
fn with_the_admission_policy_a_daemon_changes_its_own_node_and_there_what_is_its_own() -> Result<()> {
    const OURS: &str = "flannel.alpha.coreos.com/public-ip";
    const OPERATORS: &str = "flannel.alpha.coreos.com/public-ip-overwrite";
    let Some(cluster) = Cluster::start()? else { return Ok(()) };
    let admin = cluster.plane.admin();
    cluster.apply(&render::with_components(&["admission-policy", "flow-schema"])?)?;
    for node in ["mine", "other"] {
        admin.create_node(node, &[], &[(OPERATORS, "192.0.2.1"), ("example.com/note", "kept")])?;
        admin.create_pod(node, node)?;
    }
    let daemon = cluster.plane.client_with(Some(admin.token("mine", 3600)?));
    let own = annotations(&[
        ("flannel.alpha.coreos.com/kube-subnet-manager", Some("true")),
        (OURS, Some("192.0.2.7")),
    ]);
    wait::until_true("the policy has effect", || Ok(patch(&daemon, "other", &own)?.0 == 403))?;

    for body in [&own, &annotations(&[(OURS, None)]), &condition("NetworkUnavailable"), &json!({})] {
        let (status, message) = patch(&daemon, "mine", body)?;
        assert_eq!(status, 200, "{body}: {message}");
    }
    for (node, body, said) in [
        ("other", own.clone(), "and not other"),
        ("other", condition("NetworkUnavailable"), "and not other"),
        ("mine", annotations(&[("example.com/note", Some("gone"))]), "its own annotations only"),
        ("mine", annotations(&[("example.com/note", None)]), "its own annotations only"),
        ("mine", annotations(&[("example.com/new", Some("1"))]), "its own annotations only"),
        ("mine", annotations(&[(OPERATORS, Some("192.0.2.9"))]), "its own annotations only"),
        ("mine", annotations(&[(OPERATORS, None)]), "its own annotations only"),
        ("mine", condition("Ready"), "the condition NetworkUnavailable only"),
        ("mine", json!({ "status": { "capacity": { "cpu": "64" } } }), "nothing else of a node's status"),
        (
            "mine",
            json!({ "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.9" }] } }),
            "nothing else of a node's status",
        ),
        ("mine", json!({ "metadata": { "labels": { "example.com/new": "1" } } }), "neither labels nor"),
        ("mine", json!({ "metadata": { "finalizers": ["example.com/new"] } }), "neither labels nor"),
    ] {
        let (status, message) = patch(&daemon, node, &body)?;
        assert!(status == 403 && message.contains(said), "{node} {body}: {status} {message}");
    }
    // A token that is bound to no pod, and so to no node.
    let unbound = cluster.plane.client(Identity::Flannel("node1"));
    let (status, message) = patch(&unbound, "mine", &own)?;
    assert!(status == 403 && message.contains("and not mine"), "{status} {message}");
    // Nobody else is hindered.
    for who in [&admin, &cluster.plane.client(Identity::Controllers)] {
        assert_eq!(patch(who, "mine", &annotations(&[("example.com/note", Some("admin"))]))?.0, 200);
    }
    Ok(())
}
