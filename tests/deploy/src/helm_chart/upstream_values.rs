//! What becomes of the values that upstream's chart has, too.

use anyhow::{Context, Result};
use flannel_model::network_config::NetworkConfig;
use serde_json::{Value, json};

use super::{backend, flannel, has, rendered};
use crate::objects::Objects;
use crate::workload::{container, containers, init_containers, pod};
use crate::{render, tools_are_here};

#[test]
fn values_of_upstreams_chart_become_what_they_become_there() -> Result<()> {
    if !tools_are_here()? {
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
fn families_are_those_that_have_a_network_and_one_has_to_have_one() -> Result<()> {
    if !tools_are_here()? {
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
    if !tools_are_here()? {
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
    if !tools_are_here()? {
        return Ok(());
    }
    let six = rendered(&json!({ "podCidr": "", "podCidrv6": "fd00:10:244::/48" }))?;
    assert!(has(&six, "--healthz-ip=::"));
    assert!(!has(&rendered(&json!({}))?, "--healthz-ip=::"));
    Ok(())
}

#[test]
fn who_installs_no_cni_configuration_has_neither_flags_nor_mount_for_it() -> Result<()> {
    if !tools_are_here()? {
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
    if !tools_are_here()? {
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
fn the_side_car_for_network_policies_has_its_own_rights() -> Result<()> {
    if !tools_are_here()? {
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
