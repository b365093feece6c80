//! What holds for backends that ask a cloud, whichever it is.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flannel_lab::cloud::alibaba::{Alibaba, Fault, REGION, instance_at};
use flannel_lab::{
    Backend, Cluster, ClusterOptions, DaemonOptions, Lab, Place, Store, Underlay, artifacts, wait,
};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use serde_json::{Value, json};

/// A node in a cloud, with its lease store; no daemon runs yet.
fn node_in_a_cloud() -> Result<(Lab, Store, Alibaba, DaemonOptions)> {
    let lab = Lab::new(1, Underlay::default())?;
    let store = Store::file(&lab)?;
    store.put_config(&Backend::AliVpc.config(false))?;
    let cloud = Alibaba::start(lab.switch().namespace(), Place::Near.gateway().into(), "lan")?;
    let plugin = artifacts::plugin("ali-vpc")?;
    let options = DaemonOptions::new(&store, None, Some(plugin))?
        .arg(format!("--cloud-endpoint=alibaba:vpc={}", cloud.endpoint()));
    Ok((lab, store, cloud, options))
}

#[test]
fn a_cloud_that_does_not_answer_holds_up_nothing_but_itself() -> Result<()> {
    let (lab, _store, cloud, options) = node_in_a_cloud()?;
    for action in ["DescribeVSwitchAttributes", "DescribeVpcs", "DescribeVRouters", "DescribeRouteTableList"]
    {
        cloud.fail(action, std::iter::repeat_n(Fault::Silence(Duration::from_mins(5)), 20));
    }
    let mut daemon = lab.node(0).start(&options)?;
    daemon.wait_ready()?;
    wait::until_true("the plugin waits for the cloud", || Ok(!cloud.calls().is_empty()))?;
    // Questions are answered meanwhile, and the tick goes on.
    let mut status = options.command(lab.node(0));
    status.args(["status", "--json", "--control-socket"]).arg(lab.node(0).control_socket());
    let answer = status.output()?;
    ensure!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let status: Value = serde_json::from_slice(&answer.stdout)?;
    assert_eq!(status["ready"]["ready"], true, "{status:#}");
    assert_eq!(status["plugin"]["calls"]["tick"], Value::Null, "no tick has ended: {status:#}");
    // Nor does anybody wait for it at the end.
    let ended = daemon.terminate()?;
    assert!(ended.success(), "{ended}");
    Ok(())
}

#[test]
fn without_credentials_the_node_keeps_its_lease_and_says_what_is_missing() -> Result<()> {
    let mut cluster = Cluster::prepare(&ClusterOptions::of(Backend::AliVpc, false))?;
    cluster.set_options(cluster.options().clone().env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true"));
    cluster.launch(0)?.wait_ready()?;
    let (trouble, _) = wait::until("the trouble is shown", || {
        let status = cluster.status(0)?;
        Ok(status["plugin"]["trouble"]["reason"].as_str().map(ToOwned::to_owned))
    })?;
    assert!(trouble.contains("metadata"), "{trouble}");
    assert_eq!(cluster.store().leases()?.len(), 1);
    assert!(cluster.daemon(0)?.runs()?);
    Ok(())
}

/// A program that leaves a core behind where one may be written; answers whether it did.
fn cores_are_written() -> Result<bool> {
    let place = tempfile::tempdir()?;
    let status = Command::new("/bin/sh").args(["-c", "kill -ABRT $$"]).current_dir(&place).status()?;
    Ok(status.core_dumped())
}

#[test]
fn a_daemon_that_has_asked_a_cloud_leaves_no_core_behind() -> Result<()> {
    let everything = Rlimit { current: None, maximum: None };
    if setrlimit(Resource::Core, everything).is_err() || !cores_are_written()? {
        flannel_test_support::skip("this machine writes no cores at all");
        return Ok(());
    }
    let (lab, _store, cloud, options) = node_in_a_cloud()?;
    let mut daemon = lab.node(0).start(&options)?;
    daemon.wait_ready()?;
    wait::until_true("there are credentials in its memory", || Ok(!cloud.calls().is_empty()))?;
    daemon.signal(Signal::ABORT)?;
    assert!(!daemon.wait_exit()?.core_dumped());
    Ok(())
}

/// A node in a cloud, whose plugin sends what its config says, and is granted route entries.
fn sender() -> Result<Cluster> {
    let plugin = Some(artifacts::component("asker")?);
    let options = ClusterOptions { nodes: 1, plugin, ..ClusterOptions::of(Backend::AliVpc, false) };
    let mut cluster = Cluster::prepare(&options)?;
    let entries = "cloud:alibaba:vpc:DescribeRouteEntryList,cloud:alibaba:vpc:CreateRouteEntry,cloud:alibaba:vpc:DeleteRouteEntry";
    let declared = "cloud:aws:ec2:DescribeRouteTables,cloud:google:compute:GET projects/*/global/routes/*";
    cluster.add_arguments(&[&format!("--allow={entries},{declared}")]);
    Ok(cluster)
}

/// What the status says of a plugin that sends these requests, until it has some words.
fn sent(cluster: &mut Cluster, requests: &[Value], words: &[&str]) -> Result<()> {
    let backend = json!({ "Type": "asker", "Do": "send", "Requests": requests });
    cluster.store().put_config(&json!({ "Network": "10.5.0.0/16", "Backend": backend }).to_string())?;
    cluster.launch(0)?.wait_ready()?;
    cluster.wait_trouble(0, words)?;
    cluster.take_daemon(0)?.kill9();
    Ok(())
}

fn vpc(action: &str, parameters: &[(&str, &str)]) -> Value {
    json!({ "provider": "alibaba", "service": "vpc", "version": "2016-04-28", "action": action, "parameters": parameters })
}

#[test]
fn a_plugin_changes_nothing_in_a_cloud_beyond_its_cluster_its_machine_and_its_region() -> Result<()> {
    let mut cluster = sender()?;
    let me = instance_at(cluster.node(0).address().into());
    let table = cluster.cloud_as::<Alibaba>()?.table();
    cluster.cloud_as::<Alibaba>()?.add("0.0.0.0/0".parse()?, &me)?;
    let create = |network: &str, hop: &str, region: &str, more: (&str, &str)| {
        let table = ("RouteTableId", table.as_str());
        let leads = [("DestinationCidrBlock", network), ("NextHopType", "Instance"), ("NextHopId", hop)];
        vpc("CreateRouteEntry", &[("RegionId", region), table, leads[0], leads[1], leads[2], more])
    };
    let token = ("ClientToken", "1");
    let foreign = "RouteTableId";
    let outside = cluster.cloud_as::<Alibaba>()?.entries();
    let outside = outside.iter().find(|entry| entry.destination == "0.0.0.0/0".parse().expect("a network"));
    let outside = outside.context("the row is there")?.id.clone();
    let list = vpc("DescribeRouteEntryList", &[("RegionId", REGION), ("RouteTableId", &table)]);
    let delete = vpc("DeleteRouteEntry", &[("RegionId", REGION), ("RouteEntryId", &outside)]);
    for (requests, said) in [
        (
            vec![create("0.0.0.0/0", &me, REGION, token)],
            "is not in the cluster network, which is 10.5.0.0/16",
        ),
        (vec![create("10.5.3.0/24", "i-other", REGION, token)], "is none of this machine's"),
        (vec![create("10.5.3.0/24", &me, "cn-beijing", token)], "is not this machine's"),
        (vec![create("10.5.3.0/24", &me, REGION, ("Action", "DeleteVpc"))], "is reserved"),
        (vec![create("10.5.3.0/24", &me, REGION, (foreign, "vtb-other"))], "is there twice"),
        (vec![list, delete.clone()], "which is not in the cluster network"),
        (vec![delete], "it is not known what the route"),
    ] {
        sent(&mut cluster, &requests, &[said])?;
        assert_eq!(cluster.cloud_as::<Alibaba>()?.mutations(), 0, "{said}");
    }
    sent(&mut cluster, &[create("10.5.3.0/24", &me, REGION, token)], &["200 "])?;
    let own = "10.5.3.0/24".parse()?;
    wait::until_true("the row that may be made is there", || {
        Ok(cluster.cloud_as::<Alibaba>()?.rows().contains_key(&own))
    })?;
    assert!(cluster.cloud_as::<Alibaba>()?.rows().contains_key(&"0.0.0.0/0".parse()?));
    Ok(())
}
