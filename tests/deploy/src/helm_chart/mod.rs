//! Tests of `deploy/helm/flannel/`.

mod additions;
mod upstream_values;

use anyhow::{Context, Result};
use flannel_model::network_config::NetworkConfig;
use serde_json::{Value, json};

use crate::objects::Objects;
use crate::workload::{Container, container, containers, init_containers, volumes};
use crate::{daemon, render, tools_are_here, workspace};

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
    if !tools_are_here()? {
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
    if !tools_are_here()? {
        return Ok(());
    }
    table().iter().try_for_each(|values| {
        render::lint(&values.to_string()).map(drop).with_context(|| values.to_string())
    })
}

#[test]
fn whatever_the_values_are_the_daemon_takes_its_command_and_its_network_config() -> Result<()> {
    if !tools_are_here()? {
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
fn without_values_the_chart_is_the_manifest() -> Result<()> {
    if !tools_are_here()? {
        return Ok(());
    }
    let (ours, chart) = (render::with_components(&[])?, render::templated("{}")?);
    assert_eq!(chart.only("ClusterRole")?["rules"], ours.only("ClusterRole")?["rules"]);
    assert_eq!(chart.only("DaemonSet")?["spec"], ours.only("DaemonSet")?["spec"]);
    Ok(())
}
