//! What holds for backends that ask a cloud, whichever it is.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use flannel_lab::cloud::alibaba::{Alibaba, Fault};
use flannel_lab::{Backend, Cluster, ClusterOptions, DaemonOptions, Lab, Place, Store, Underlay, wait};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};

/// A node in a cloud, with its lease store; no daemon runs yet.
fn node_in_a_cloud() -> Result<(Lab, Store, Alibaba, DaemonOptions)> {
    let lab = Lab::new(1, Underlay::default())?;
    let store = Store::file(&lab)?;
    store.put_config(&Backend::AliVpc.config(false))?;
    let cloud = Alibaba::start(lab.switch().namespace(), Place::Near.gateway().into(), "lan")?;
    let plugin = flannel_lab::artifacts::plugin("ali-vpc")?;
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
    let status: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
    assert_eq!(status["ready"]["ready"], true, "{status:#}");
    assert_eq!(status["plugin"]["calls"]["tick"], serde_json::Value::Null, "no tick has ended: {status:#}");
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
