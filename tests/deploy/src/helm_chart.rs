//! Tests of `deploy/helm/flannel/`.

use anyhow::{Context, Result};
use flannel_model::network_config::NetworkConfig;
use serde_json::{Value, json};

use crate::objects::Objects;
use crate::workload::{Container, container, containers, init_containers, pod, volumes};
use crate::{daemon, render, tools, workspace};

/// Whether `helm` is here; if not, the test has said so.
fn possible() -> Result<bool> {
    let missing = tools::missing()?;
    missing.iter().for_each(flannel_test_support::skip);
    Ok(missing.is_none())
}

/// The `Backend` object that values of `flannel` and the backend's type make.
fn backend(flannel: &Value) -> Result<Value> {
    let objects = render::templated(&json!({ "flannel": flannel }).to_string())?;
    let text = objects.config("kube-flannel-cfg", "net-conf.json")?;
    Ok(serde_json::from_str::<Value>(text)?["Backend"].clone())
}

fn flannel(objects: &Objects) -> Result<Container> {
    container(objects.only("DaemonSet")?, "kube-flannel")
}

/// Renders with values and answers the daemon's container.
fn rendered(values: &Value) -> Result<Container> {
    flannel(&render::templated(&values.to_string())?)
}

fn has(container: &Container, argument: &str) -> bool {
    container.command.iter().any(|it| it == argument)
}

/// Values that have to be rendered into something that works.
fn table() -> Vec<Value> {
    vec![
        json!({}),
        json!({ "podCidr": "", "podCidrv6": "fd00:10:244::/48" }),
        json!({ "podCidrv6": "fd00:10:244::/48" }),
        json!({ "flannel": { "backend": "host-gw", "enableNFTables": true } }),
        json!({ "flannel": { "backend": "vxlan", "backendPort": 4789, "vni": 4096, "mtu": 1400, "GBP": true,
            "directRouting": true, "macPrefix": "0E-2A" } }),
        json!({ "flannel": { "backend": "wireguard", "backendPort": 51830, "backendPortv6": 51831, "mtu": 1400,
            "psk": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "tunnelMode": "auto", "keepaliveInterval": 25 } }),
        json!({ "flannel": { "backend": "udp", "backendPort": 8286 } }),
        json!({ "flannel": { "backend": "ipip", "backendOptions": { "DirectRouting": true } } }),
        json!({ "flannel": { "backend": "alloc" } }),
        json!({ "flannel": { "healthz": { "port": 0 } } }),
        json!({ "flannel": { "skipCNIConfigInstallation": true } }),
        json!({ "flannel": { "args": ["--ip-masq", "--kube-subnet-mgr", "--iface-regex=eth.*", "-v=4"] } }),
        json!({ "flannel": { "cniBinDir": "/var/lib/rancher/k3s/data/cni", "cniConfDir": "/var/lib/rancher/k3s/agent/etc/cni/net.d" } }),
        json!({ "netpol": { "enabled": true } }),
        additions(),
    ]
}

/// All that only this chart has.
fn additions() -> Value {
    json!({
        "global": { "imagePullSecrets": [{ "name": "registry" }] },
        "flannel": {
            "image": { "repository": "registry.example.com/infra/flanneld", "tag": "1.2.3" },
            "imagePullPolicy": "Always",
            "labels": { "team": "net" },
            "annotations": { "example.com/a": "1" },
            "podLabels": { "example.com/b": "2", "app": "other" },
            "podAnnotations": { "example.com/c": "3" },
            "affinity": { "nodeAffinity": {} },
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "10%" } },
            "env": [{ "name": "FLANNELD_LOG_FORMAT", "value": "json" }],
            "volumes": [{ "name": "docker", "secret": { "secretName": "docker" } }],
            "volumeMounts": [{ "name": "docker", "mountPath": "/etc/docker" }],
            "securityContext": { "capabilities": { "add": ["NET_ADMIN", "NET_RAW", "DAC_OVERRIDE"] } },
            "plugins": [{
                "plugin": format!("oci://registry.example.com/my-net:1.0@sha256:{}", "0a".repeat(32)),
                "grant": { "digest": format!("sha256:{}", "0b".repeat(32)), "name": "my-net", "allow": ["links", "routes"] },
            }],
        },
        "namespace": { "create": true },
        "flowSchema": { "enabled": true },
        "admissionPolicy": { "enabled": true },
        "serviceMonitor": { "enabled": true, "labels": { "release": "prometheus" } },
    })
}

#[test]
fn the_default_render_is_the_golden_one() -> Result<()> {
    if !possible()? {
        return Ok(());
    }
    let golden = workspace().join("tests/deploy/golden/default.yaml");
    let made = render::template("{}")?;
    if std::env::var_os("FLANNELD_TEST_BLESS").is_some() {
        std::fs::write(&golden, &made)?;
    }
    let before = std::fs::read_to_string(&golden).with_context(|| golden.display().to_string())?;
    assert_eq!(before, made, "with FLANNELD_TEST_BLESS=1 the test writes tests/deploy/golden/default.yaml");
    Ok(())
}

#[test]
fn helm_has_nothing_to_say_against_it() -> Result<()> {
    if !possible()? {
        return Ok(());
    }
    table().iter().try_for_each(|values| {
        render::lint(&values.to_string()).map(drop).with_context(|| values.to_string())
    })
}

#[test]
fn whatever_the_values_are_the_daemon_takes_its_command_and_its_network_config() -> Result<()> {
    if !possible()? {
        return Ok(());
    }
    for values in table() {
        let objects = render::templated(&values.to_string())?;
        let check = || {
            let daemon_set = objects.only("DaemonSet")?;
            init_containers(daemon_set)?.iter().try_for_each(daemon::accepts)?;
            daemon::accepts(&flannel(&objects)?)?;
            let config = objects.config("kube-flannel-cfg", "net-conf.json")?;
            let config = NetworkConfig::parse_for_assigned_subnets(config)?;
            daemon::starts_with(config.backend.get())?;
            serde_json::from_str::<Value>(objects.config("kube-flannel-cfg", "cni-conf.json")?)?;
            let volumes = volumes(daemon_set);
            for (place, volume) in containers(daemon_set)?.iter().flat_map(|container| &container.mounts) {
                anyhow::ensure!(volumes.contains(volume), "{place}: no volume {volume}");
            }
            Ok::<_, anyhow::Error>(())
        };
        check().with_context(|| values.to_string())?;
    }
    Ok(())
}

#[test]
fn values_of_upstreams_chart_become_what_they_become_there() -> Result<()> {
    if !possible()? {
        return Ok(());
    }
    for (flannel, wanted) in [
        (json!({}), json!({ "Type": "vxlan" })),
        (
            json!({ "backendPort": 4789, "vni": 4096, "mtu": 1400, "GBP": true, "directRouting": true, "macPrefix": "0E-2A" }),
            json!({ "Type": "vxlan", "Port": 4789, "VNI": 4096, "MTU": 1400, "GBP": true, "DirectRouting": true, "MacPrefix": "0E-2A" }),
        ),
        (
            json!({ "backend": "wireguard", "backendPort": 1, "backendPortv6": 2, "mtu": 1400, "psk": "abc=", "tunnelMode": "ipv4", "keepaliveInterval": 25 }),
            json!({ "Type": "wireguard", "ListenPort": 1, "ListenPortV6": 2, "MTU": 1400, "PSK": "abc=", "Mode": "ipv4", "PersistentKeepaliveInterval": 25 }),
        ),
        (
            json!({ "backend": "udp", "backendPort": 8286, "mtu": 1400 }),
            json!({ "Type": "udp", "Port": 8286 }),
        ),
        // What is for other backends, and what is zero, is left out.
        (
            json!({ "backend": "host-gw", "backendPort": 1, "vni": 2, "directRouting": true }),
            json!({ "Type": "host-gw" }),
        ),
        (json!({ "vni": 0, "GBP": false, "keepaliveInterval": 0 }), json!({ "Type": "vxlan" })),
        // As `--set-string` gives them.
        (
            json!({ "backendPort": "4789", "GBP": "true" }),
            json!({ "Type": "vxlan", "Port": 4789, "GBP": true }),
        ),
    ] {
        assert_eq!(backend(&flannel)?, wanted, "{flannel}");
    }
    Ok(())
}

#[test]
fn options_of_any_backend_are_laid_over_those_that_have_values_of_their_own() -> Result<()> {
    if !possible()? {
        return Ok(());
    }
    let given = json!({ "vni": 2, "backendOptions": { "VNI": 3, "Learning": true } });
    assert_eq!(backend(&given)?, json!({ "Type": "vxlan", "VNI": 3, "Learning": true }));
    Ok(())
}

#[test]
fn families_are_those_that_have_a_network_and_one_has_to_have_one() -> Result<()> {
    if !possible()? {
        return Ok(());
    }
    let config = |v4: &str, v6: &str| {
        let objects = render::templated(&json!({ "podCidr": v4, "podCidrv6": v6 }).to_string())?;
        let text = objects.config("kube-flannel-cfg", "net-conf.json")?;
        Ok::<_, anyhow::Error>(NetworkConfig::parse_for_assigned_subnets(text)?)
    };
    let six = "fd00:10:244::/48";
    for (v4, v6, families) in
        [("10.1.0.0/16", "", (true, false)), ("10.1.0.0/16", six, (true, true)), ("", six, (false, true))]
    {
        let config = config(v4, v6)?;
        assert_eq!((config.enable_ipv4, config.enable_ipv6), families, "{v4} {v6}");
    }
    let error = config("", "").err().context("refused")?.root_cause().to_string();
    assert!(error.contains("podCidr and podCidrv6 are both empty"), "{error}");
    Ok(())
}

#[test]
fn probes_port_and_flag_go_together_and_go_with_port_zero() -> Result<()> {
    if !possible()? {
        return Ok(());
    }
    for (port, there) in [(8081, true), (9000, true), (0, false)] {
        let values =
            json!({ "flannel": { "healthz": { "port": port, "livenessProbe": { "periodSeconds": 7 } } } });
        let objects = render::templated(&values.to_string())?;
        let daemon_set = objects.only("DaemonSet")?;
        let raw = &pod(daemon_set)["containers"][0];
        assert_eq!(has(&flannel(&objects)?, &format!("--healthz-port={port}")), there, "{port}");
        for part in ["ports", "livenessProbe", "readinessProbe"] {
            assert_eq!(raw.get(part).is_some(), there, "{part} with {port}");
        }
        if there {
            assert_eq!(raw["ports"][0]["containerPort"], port);
            assert_eq!(raw["livenessProbe"]["periodSeconds"], 7);
            assert_eq!(raw["livenessProbe"]["httpGet"]["path"], "/healthz");
        }
    }
    Ok(())
}

#[test]
fn in_ipv6_alone_the_probes_reach_the_daemon() -> Result<()> {
    if !possible()? {
        return Ok(());
    }
    let six = rendered(&json!({ "podCidr": "", "podCidrv6": "fd00:10:244::/48" }))?;
    assert!(has(&six, "--healthz-ip=::"));
    assert!(!has(&rendered(&json!({}))?, "--healthz-ip=::"));
    Ok(())
}

#[test]
fn who_installs_no_cni_configuration_has_neither_flags_nor_mount_for_it() -> Result<()> {
    if !possible()? {
        return Ok(());
    }
    for skip in [false, true] {
        let flannel = rendered(&json!({ "flannel": { "skipCNIConfigInstallation": skip } }))?;
        assert_eq!(has(&flannel, "--cni-conf-to=/etc/cni/net.d/10-flannel.conflist"), !skip);
        assert_eq!(flannel.mounts("/etc/cni/net.d/10-flannel.conflist"), !skip);
    }
    Ok(())
}

#[test]
fn the_cni_plugin_is_the_images_own_or_another_images() -> Result<()> {
    if !possible()? {
        return Ok(());
    }
    let image = |values: Value| {
        let objects = render::templated(&values.to_string())?;
        let all = init_containers(objects.only("DaemonSet")?)?;
        Ok::<_, anyhow::Error>(all.first().context("an init container")?.image.clone())
    };
    let main = json!({ "repository": "r/flanneld", "tag": "1" });
    assert_eq!(image(json!({ "flannel": { "image": main } }))?, "r/flanneld:1");
    let other = json!({ "image": { "repository": "r/cni", "tag": "v2" } });
    assert_eq!(image(json!({ "flannel": { "image": main, "flannel_cni": other } }))?, "r/cni:v2");
    Ok(())
}

#[test]
fn udp_alone_is_privileged_and_what_is_given_comes_last() -> Result<()> {
    if !possible()? {
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
    if !possible()? {
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
    if !possible()? {
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

/// A key of the tests for signatures.
const PUBLIC_KEY: &str = "p256.pub";

#[test]
fn the_side_car_for_network_policies_has_its_own_rights() -> Result<()> {
    if !possible()? {
        return Ok(());
    }
    let with = render::templated(&json!({ "netpol": { "enabled": true } }).to_string())?;
    let without = render::templated("{}")?;
    let side_car = container(with.only("DaemonSet")?, "kube-network-policies")?;
    assert_eq!(side_car.command[0], "/bin/netpol");
    assert!(side_car.privileged && side_car.mounts("/lib/modules"));
    assert!(!flannel(&with)?.privileged);
    assert_eq!(containers(without.only("DaemonSet")?)?.len(), 1);
    let may_list = |objects: &Objects, resource: &str| {
        let role = objects.get("ClusterRole", "flannel")?["rules"].clone();
        let rules = role.as_array().context("rules")?.clone();
        let names =
            |value: &Value, name: &str| value.as_array().is_some_and(|list| list.contains(&name.into()));
        Ok::<_, anyhow::Error>(
            rules.iter().any(|rule| names(&rule["resources"], resource) && names(&rule["verbs"], "list")),
        )
    };
    for resource in ["pods", "namespaces", "networkpolicies", "adminnetworkpolicies"] {
        assert!(may_list(&with, resource)?, "{resource}");
        assert!(!may_list(&without, resource)?, "{resource}");
    }
    Ok(())
}

#[test]
fn the_policy_and_the_flow_schema_are_the_kustomizations() -> Result<()> {
    if !possible()? {
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
fn without_values_the_chart_is_the_manifest() -> Result<()> {
    if !possible()? {
        return Ok(());
    }
    let (ours, chart) = (render::with_components(&[])?, render::templated("{}")?);
    assert_eq!(chart.only("ClusterRole")?["rules"], ours.only("ClusterRole")?["rules"]);
    assert_eq!(chart.only("DaemonSet")?["spec"], ours.only("DaemonSet")?["spec"]);
    Ok(())
}

#[test]
fn wrong_values_are_refused_with_their_names() -> Result<()> {
    if !possible()? {
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
    if !possible()? {
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
