//! Tests of the shapes.

use anyhow::{Context, Result};
use flannel_model::network_config::NetworkConfig;
use serde_json::Value;

use crate::daemon;
use crate::shapes::{ALL, Shape};
use crate::workload::{Container, pod, volumes};

/// Does something with each shape. An error names it.
fn each(check: impl Fn(&Shape) -> Result<()>) -> Result<()> {
    for source in ALL {
        let shape = source.load()?;
        check(&shape).with_context(|| source.name)?;
    }
    Ok(())
}

#[test]
fn the_image_runs_every_command_that_upstreams_images_are_given() -> Result<()> {
    each(|shape| shape.flannels()?.iter().try_for_each(daemon::accepts))
}

#[test]
fn every_network_config_is_read_and_its_backend_starts() -> Result<()> {
    each(|shape| {
        let config = NetworkConfig::parse_for_assigned_subnets(shape.network_config()?)?;
        daemon::starts_with(config.backend.get())
    })
}

#[test]
fn every_cni_configuration_is_json_for_the_plugin_flannel() -> Result<()> {
    each(|shape| {
        let Some(text) = shape.cni_config()? else { return Ok(()) };
        let config: Value = serde_json::from_str(text)?;
        assert_eq!((&config["name"], &config["plugins"][0]["type"]), (&"cbr0".into(), &"flannel".into()));
        Ok(())
    })
}

#[test]
fn each_can_be_applied_as_it_is() -> Result<()> {
    each(|shape| {
        let daemon_set = shape.daemon_set()?;
        let labels = &daemon_set["spec"]["template"]["metadata"]["labels"];
        for (name, value) in
            daemon_set["spec"]["selector"]["matchLabels"].as_object().context("a selector")?
        {
            assert_eq!(labels[name], *value, "the selector selects its own pods");
        }
        let volumes = volumes(daemon_set);
        for (place, volume) in shape.flannels()?.iter().flat_map(|container| &container.mounts) {
            assert!(volumes.contains(volume), "{place}: no volume {volume}");
        }
        let map = shape.objects.only("ConfigMap")?;
        assert_eq!(map["metadata"]["namespace"], daemon_set["metadata"]["namespace"]);
        let all = pod(daemon_set)["volumes"].as_array().context("volumes")?;
        assert!(all.iter().any(|volume| volume["configMap"]["name"] == map["metadata"]["name"]));
        Ok(())
    })
}

#[test]
fn every_daemon_is_told_its_node_by_its_pod_and_may_change_the_network() -> Result<()> {
    each(|shape| {
        let all = shape.flannels()?;
        let daemon = all.last().context("no container of flannel's")?;
        let filled = |name: &str| daemon.variables.contains(&(name.to_owned(), None));
        assert!(filled("POD_NAME") && filled("POD_NAMESPACE"));
        let may = ["NET_ADMIN", "NET_RAW"].iter().all(|name| daemon.added.iter().any(|added| added == name));
        assert!(daemon.privileged || may);
        Ok(())
    })
}

#[test]
fn an_image_takes_the_place_of_flannels_own_and_of_no_others() -> Result<()> {
    let images = |containers: &[Container]| {
        containers.iter().map(|container| container.image.clone()).collect::<Vec<_>>()
    };
    each(|shape| {
        let before = shape.flannels()?.len();
        let after = shape.clone().with_image("ours:1")?;
        assert!(after.flannels()?.is_empty(), "none of upstream's is left");
        let daemon_set = after.daemon_set()?;
        let mut all = crate::workload::init_containers(daemon_set)?;
        all.extend(crate::workload::containers(daemon_set)?);
        let ours = images(&all).iter().filter(|image| *image == "ours:1").count();
        assert_eq!(ours, before);
        Ok(())
    })
}

#[test]
fn what_the_image_does_not_have_is_refused() -> Result<()> {
    let shape = ALL[0].load()?;
    let all = shape.flannels()?;
    let daemon = all.last().context("a daemon")?;
    let with = |command: &[&str]| Container {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        ..daemon.clone()
    };
    for wrong in [
        &["/opt/bin/flanneld", "--nope"][..],
        &["/opt/bin/flanneld", "--ip-masq", "false"],
        &["/bin/sh", "-c", "true"],
        &["cp", "-f", "/flannel", "/opt/cni/bin/flannel"],
        &["/opt/bin/install-conf", "/etc/kube-flannel/cni-conf.json"],
        &["cp", "--reflink", "/etc/kube-flannel/cni-conf.json", "/run/flannel/x"],
    ] {
        assert!(daemon::accepts(&with(wrong)).is_err(), "{wrong:?}");
    }
    let mut variable = daemon.clone();
    variable.variables.push(("FLANNELD_NOPE".to_owned(), Some("1".to_owned())));
    assert!(daemon::accepts(&variable).is_err());
    Ok(())
}
