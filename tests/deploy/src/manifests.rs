//! Tests of `deploy/kubernetes/`.

use anyhow::{Context, Result};
use flannel_model::network_config::NetworkConfig;
use serde_json::{Value, json};

use crate::objects::Objects;
use crate::workload::{container, init_containers, pod, volumes};
use crate::{daemon, render, shapes, tools_are_here, workspace};

fn file(name: &str) -> Result<String> {
    let file = workspace().join("deploy/kubernetes").join(name);
    std::fs::read_to_string(&file).with_context(|| file.display().to_string())
}

fn manifest() -> Result<Objects> {
    Objects::parse(&file("flannel.yml")?)
}

#[test]
fn the_manifests_are_what_the_kustomizations_make() -> Result<()> {
    if !tools_are_here()? {
        return Ok(());
    }
    for (name, directory) in [("flannel.yml", ""), ("flannel-release.yml", "overlays/release-selector")] {
        let made = render::kustomize(&render::kustomization(directory))?;
        assert_eq!(
            file(name)?,
            made,
            "kubectl kustomize deploy/kubernetes/kustomization/{directory} > {name}"
        );
    }
    Ok(())
}

#[test]
fn names_and_selectors_are_those_of_upstreams_manifests() -> Result<()> {
    for (ours, source) in [("flannel.yml", "documentation"), ("flannel-release.yml", "release")] {
        let ours = Objects::parse(&file(ours)?)?;
        let source = shapes::ALL.iter().find(|shape| shape.name == source).context(source)?;
        let theirs = source.load()?.objects;
        let (mine, other) = (ours.only("DaemonSet")?, theirs.only("DaemonSet")?);
        for member in ["name", "namespace"] {
            assert_eq!(mine["metadata"][member], other["metadata"][member]);
        }
        assert_eq!(mine["spec"]["selector"], other["spec"]["selector"], "it cannot be changed");
        let labels = |daemon_set: &Value| daemon_set["spec"]["template"]["metadata"]["labels"].clone();
        assert_eq!(labels(mine), labels(other));
        assert_eq!(
            ours.names(),
            [
                "ClusterRole/flannel",
                "ClusterRoleBinding/flannel",
                "ConfigMap/kube-flannel-cfg",
                "DaemonSet/kube-flannel-ds",
                "Namespace/kube-flannel",
                "ServiceAccount/flannel",
            ]
        );
    }
    Ok(())
}

#[test]
fn the_daemon_takes_the_commands_of_the_manifest() -> Result<()> {
    let manifest = manifest()?;
    let daemon_set = manifest.only("DaemonSet")?;
    let mut all = init_containers(daemon_set)?;
    all.push(container(daemon_set, "kube-flannel")?);
    all.iter().try_for_each(daemon::accepts)
}

#[test]
fn the_daemon_may_change_the_network_and_nothing_else() -> Result<()> {
    let manifest = manifest()?;
    let flannel = container(manifest.only("DaemonSet")?, "kube-flannel")?;
    assert_eq!((flannel.privileged, flannel.dropped, flannel.added), {
        (false, vec!["ALL".to_owned()], vec!["NET_ADMIN".to_owned(), "NET_RAW".to_owned()])
    });
    for container in pod(manifest.only("DaemonSet")?)["containers"].as_array().context("containers")? {
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["allowPrivilegeEscalation"], false);
    }
    Ok(())
}

#[test]
fn whatever_the_daemon_writes_is_on_the_host() -> Result<()> {
    let manifest = manifest()?;
    let daemon_set = manifest.only("DaemonSet")?;
    let flannel = container(daemon_set, "kube-flannel")?;
    for place in [
        "/run/flannel/subnet.env",
        "/run/xtables.lock",
        "/etc/cni/net.d/10-flannel.conflist",
        "/var/lib/flanneld/wgkey",
        "/var/cache/flanneld/plugins",
    ] {
        assert!(flannel.mounts(place), "{place} is not mounted");
    }
    let volumes = volumes(daemon_set);
    for (place, volume) in &flannel.mounts {
        assert!(volumes.contains(volume), "{place}: no volume {volume}");
    }
    Ok(())
}

#[test]
fn no_taint_keeps_it_off_a_node_and_nothing_evicts_it() -> Result<()> {
    let manifest = manifest()?;
    let pod = pod(manifest.only("DaemonSet")?);
    assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]));
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    assert_eq!(pod["hostNetwork"], true);
    Ok(())
}

#[test]
fn the_role_is_what_upstreams_daemon_needs_too() -> Result<()> {
    let rules = manifest()?.get("ClusterRole", "flannel")?["rules"].clone();
    let rule = |resource: &str, verbs: &[&str]| json!({ "apiGroups": [""], "resources": [resource], "verbs": verbs });
    let needed =
        [rule("pods", &["get"]), rule("nodes", &["get", "list", "watch"]), rule("nodes/status", &["patch"])];
    assert_eq!(rules, json!(needed));
    Ok(())
}

#[test]
fn each_component_has_a_network_config_with_which_its_backend_starts() -> Result<()> {
    if !tools_are_here()? {
        return Ok(());
    }
    for (components, backend, families) in [
        (&[][..], "vxlan", (true, false)),
        (&["host-gw"], "host-gw", (true, false)),
        (&["wireguard"], "wireguard", (true, false)),
        (&["udp"], "udp", (true, false)),
        (&["dual-stack"], "vxlan", (true, true)),
        (&["ipv6"], "vxlan", (false, true)),
    ] {
        let objects = render::with_components(components)?;
        let text = objects.config("kube-flannel-cfg", "net-conf.json")?;
        let config = NetworkConfig::parse_for_assigned_subnets(text).with_context(|| text.to_owned())?;
        assert_eq!(config.backend_type, backend, "{components:?}");
        assert_eq!((config.enable_ipv4, config.enable_ipv6), families, "{components:?}");
        daemon::starts_with(config.backend.get())?;
        serde_json::from_str::<Value>(objects.config("kube-flannel-cfg", "cni-conf.json")?)?;
        daemon::accepts(&container(objects.only("DaemonSet")?, "kube-flannel")?)?;
    }
    Ok(())
}

#[test]
fn udp_alone_is_privileged() -> Result<()> {
    if !tools_are_here()? {
        return Ok(());
    }
    for (components, privileged) in
        [(&["udp"][..], true), (&["wireguard"], false), (&["admission-policy", "flow-schema"], false)]
    {
        let objects = render::with_components(components)?;
        let flannel = container(objects.only("DaemonSet")?, "kube-flannel")?;
        assert_eq!(flannel.privileged, privileged, "{components:?}");
    }
    Ok(())
}

#[test]
fn optional_objects_name_the_account_that_the_daemon_has() -> Result<()> {
    if !tools_are_here()? {
        return Ok(());
    }
    let objects = render::with_components(&["admission-policy", "flow-schema"])?;
    let subject = &objects.only("FlowSchema")?["spec"]["rules"][0]["subjects"][0]["serviceAccount"];
    assert_eq!(*subject, json!({ "name": "flannel", "namespace": "kube-flannel" }));
    let policy = objects.only("ValidatingAdmissionPolicy")?;
    let condition = policy["spec"]["matchConditions"][0]["expression"].as_str().context("a condition")?;
    assert!(condition.ends_with(r#""system:serviceaccount:kube-flannel:flannel""#), "{condition}");
    let binding = objects.only("ValidatingAdmissionPolicyBinding")?;
    assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
    Ok(())
}
