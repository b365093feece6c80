//! What becomes of the values that only this chart has; and what it says to wrong ones, and at the end.

use anyhow::{Context, Result};
use serde_json::json;

use super::{additions, backend, flannel, has, rendered};
use crate::workload::pod;
use crate::{daemon, render, tools_are_here, workspace};

/// A key of the tests for signatures.
const PUBLIC_KEY: &str = "p256.pub";

#[test]
fn options_of_any_backend_are_laid_over_those_that_have_values_of_their_own() -> Result<()> {
    if !tools_are_here()? {
        return Ok(());
    }
    let given = json!({ "vni": 2, "backendOptions": { "VNI": 3, "Learning": true } });
    assert_eq!(backend(&given)?, json!({ "Type": "vxlan", "VNI": 3, "Learning": true }));
    Ok(())
}

#[test]
fn udp_alone_is_privileged_and_what_is_given_comes_last() -> Result<()> {
    if !tools_are_here()? {
        return Ok(());
    }
    for (backend, privileged) in [("vxlan", false), ("wireguard", false), ("udp", true)] {
        let flannel = rendered(&json!({ "flannel": { "backend": backend } }))?;
        assert_eq!(flannel.privileged, privileged, "{backend}");
    }
    let values = json!({ "flannel": { "securityContext": { "privileged": true } } });
    let objects = render::templated(&values.to_string())?;
    let context = &pod(objects.only("DaemonSet")?)["containers"][0]["securityContext"];
    assert_eq!(context["allowPrivilegeEscalation"], true, "the API server refuses the contrary");
    Ok(())
}

#[test]
fn additions_are_where_they_belong() -> Result<()> {
    if !tools_are_here()? {
        return Ok(());
    }
    let objects = render::templated(&additions().to_string())?;
    let daemon_set = objects.only("DaemonSet")?;
    for object in &objects.0 {
        if !["Namespace", "ServiceMonitor"].iter().any(|kind| object["kind"] == *kind) {
            assert_eq!(object["metadata"]["labels"]["team"], "net", "{}", object["kind"]);
            assert_eq!(object["metadata"]["annotations"]["example.com/a"], "1", "{}", object["kind"]);
        }
    }
    let template = &daemon_set["spec"]["template"]["metadata"];
    assert_eq!(
        template["labels"],
        json!({ "app": "flannel", "tier": "node", "team": "net", "example.com/b": "2" }),
        "the selector's label is nobody else's"
    );
    assert_eq!(template["annotations"], json!({ "example.com/c": "3" }));
    assert_eq!(daemon_set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"], "10%");
    assert_eq!(pod(daemon_set)["affinity"], json!({ "nodeAffinity": {} }));
    assert_eq!(pod(daemon_set)["imagePullSecrets"], json!([{ "name": "registry" }]));
    let flannel = flannel(&objects)?;
    assert!(flannel.variables.contains(&("FLANNELD_LOG_FORMAT".to_owned(), Some("json".to_owned()))));
    assert!(flannel.mounts("/etc/docker/config.json"));
    assert_eq!(flannel.added, ["NET_ADMIN", "NET_RAW", "DAC_OVERRIDE"]);
    assert_eq!(flannel.dropped, ["ALL"]);
    assert_eq!(flannel.image, "registry.example.com/infra/flanneld:1.2.3");
    Ok(())
}

#[test]
fn the_daemon_reads_the_grants_of_plugins_and_signers() -> Result<()> {
    if !tools_are_here()? {
        return Ok(());
    }
    let key = std::fs::read_to_string(workspace().join("tests/fixtures/cosign").join(PUBLIC_KEY))?;
    let values = json!({ "flannel": {
        "plugins": [{
            "plugin": "oci://registry.example.com/my-net:1.0",
            "grant": { "signer": "acme", "name": "my-net", "allow": ["links", "cloud:aws:ec2:CreateRoute?RouteTableId=rtb-1&Filter"] },
        }],
        "signers": [{ "name": "acme", "key": key }],
    }});
    let objects = render::templated(&values.to_string())?;
    let flannel = flannel(&objects)?;
    assert!(has(&flannel, "--plugin=oci://registry.example.com/my-net:1.0"));
    assert!(has(&flannel, "--plugin-grants=/etc/flanneld/plugins/grants.toml"));
    assert!(flannel.mounts("/etc/flanneld/plugins/grants.toml"));
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("grants.toml");
    std::fs::write(&file, objects.config("kube-flannel-plugins", "grants.toml")?)?;
    daemon::reads_grants(&file)?;
    std::fs::write(&file, "[[grant]]\nnope = 1\n")?;
    assert!(daemon::reads_grants(&file).is_err(), "it does read them");
    Ok(())
}

#[test]
fn the_policy_and_the_flow_schema_are_the_kustomizations() -> Result<()> {
    if !tools_are_here()? {
        return Ok(());
    }
    let ours = render::with_components(&["admission-policy", "flow-schema"])?;
    let chart = render::templated(&additions().to_string())?;
    for kind in ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "FlowSchema"] {
        assert_eq!(chart.only(kind)?["spec"], ours.only(kind)?["spec"], "{kind}");
    }
    let other = json!({ "admissionPolicy": { "enabled": true, "annotationPrefix": "blue.example.com/" } });
    let policy = render::templated(&other.to_string())?.only("ValidatingAdmissionPolicy")?.clone();
    assert_eq!(policy["spec"]["variables"][0]["expression"], r#""blue.example.com/""#);
    Ok(())
}

#[test]
fn wrong_values_are_refused_with_their_names() -> Result<()> {
    if !tools_are_here()? {
        return Ok(());
    }
    for (values, named) in [
        (json!({ "podCidr": "10.244.0.0" }), "podCidr"),
        (json!({ "flannel": { "mtu": "large" } }), "mtu"),
        (json!({ "flannel": { "healthz": { "port": 70_000 } } }), "port"),
        (json!({ "flannel": { "tunnelMode": "both" } }), "tunnelMode"),
        (json!({ "flannel": { "plugins": [{ "plugin": "a" }, { "plugin": "b" }] } }), "plugins"),
        (json!({ "flannel": { "plugins": [{ "plugin": "a", "grant": { "name": "a" } }] } }), "allow"),
        (json!({ "flannel": { "plugins": [{ "plugin": "a", "grant": { "allow": ["links"] } }] } }), "grant"),
        (json!({ "admissionPolicy": { "enable": true } }), "enable"),
        (
            json!({ "flannel": { "healthz": { "port": 0 } }, "serviceMonitor": { "enabled": true } }),
            "healthz.port",
        ),
    ] {
        let error = render::template(&values.to_string()).err().with_context(|| values.to_string())?;
        assert!(error.to_string().contains(named), "{values}: {error}");
    }
    Ok(())
}

#[test]
fn the_notes_say_what_is_still_to_be_done() -> Result<()> {
    if !tools_are_here()? {
        return Ok(());
    }
    let notes = render::notes("{}")?;
    assert!(notes.contains("cargo xtask image") && notes.contains("10.244.0.0/16"), "{notes}");
    assert!(notes.contains("pod-security.kubernetes.io/enforce=privileged"), "{notes}");
    let ready = json!({ "flannel": { "image": { "repository": "r.example/f", "tag": "1" } }, "namespace": { "create": true } });
    let notes = render::notes(&ready.to_string())?;
    assert!(!notes.contains("cargo xtask image") && !notes.contains("pod-security"), "{notes}");
    Ok(())
}
