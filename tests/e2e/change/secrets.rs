//! A backend whose section has secrets, while the cluster changes from it: nobody is told of them, and each node has them for as long as it
//! needs them.

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flannel_lab::change::{self, Ground, Moment};
use flannel_lab::cloud::alibaba::ACCESS_KEY;
use flannel_lab::{Backend, Cluster, ClusterOptions, Place, wait};

use super::{VXLAN, nothing_is_lost, wait_reached_by};

/// Where the secrets of a change are, in a state directory.
const FILE: &str = "backend-secrets";
/// How long there is no daemon.
const AWAY: Duration = Duration::from_millis(800);
/// What a node says that cannot have the former backend.
const CANNOT_BE_HAD: &str = "the backend before cannot be had";

/// Three nodes in a cloud, by whose routes their pods reach each other. The network config has the keys for it.
fn with_keys() -> Result<Cluster> {
    let (id, secret) = ACCESS_KEY;
    let config = format!(
        r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"ali-vpc","AccessKeyID":"{id}","AccessKeySecret":"{secret}"}}}}"#
    );
    let options = ClusterOptions { nodes: 3, config, ..ClusterOptions::of(Backend::AliVpc, false) };
    let mut cluster = Ground::default().prepare(&options)?;
    cluster.add_arguments(&["--log-level", "debug"]);
    cluster.bring_up()?;
    wait::until_true("each node has its row", || Ok(cluster.cloud()?.table()?.len() == 3))?;
    Ok(cluster)
}

fn is_for_secrets(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(FILE))
}

/// No lease, no log, no status and no file has a secret, but the one that is for it and that nobody else reads. Answers how many of that there
/// are.
fn nobody_is_told(cluster: &Cluster) -> Result<usize> {
    let has = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        [ACCESS_KEY.0, ACCESS_KEY.1].iter().any(|secret| text.contains(secret))
    };
    let mut kept = 0;
    for (path, bytes) in cluster.lab().files()? {
        if is_for_secrets(&path) {
            let Ok(about) = path.metadata() else { continue };
            let mode = about.permissions().mode() & 0o7777;
            ensure!(mode == 0o600, "{} has the mode {mode:o}", path.display());
            kept += usize::from(path.file_name().is_some_and(|name| name == FILE) && has(&bytes));
        } else {
            ensure!(!has(&bytes), "{} has a secret", path.display());
        }
    }
    for lease in cluster.store().leases()? {
        ensure!(!has(lease.value.as_bytes()), "a lease has a secret: {}", lease.value);
    }
    for index in change::running(cluster) {
        let status = cluster.status(index)?.to_string();
        ensure!(!has(status.as_bytes()), "a status has a secret: {status}");
    }
    Ok(kept)
}

/// How often a node has said something.
fn said(cluster: &Cluster, index: usize, words: &str) -> Result<usize> {
    let log = std::fs::read_to_string(cluster.node(index).directory().join("flanneld.log"))?;
    Ok(log.lines().filter(|line| line.contains(words)).count())
}

/// Nothing of the former backend's secrets is left.
fn is_over(cluster: &Cluster) -> Result<()> {
    wait::until_true("no file has secrets any more", || {
        Ok(!cluster.lab().files()?.iter().any(|(path, _)| is_for_secrets(path)))
    })?;
    ensure!(nobody_is_told(cluster)? == 0);
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn from_a_backend_with_secrets_nobody_is_told_of_them_at_any_moment() -> Result<()> {
    let mut cluster = with_keys()?;
    nothing_is_lost(&mut cluster, |cluster, _| {
        change::put(cluster, VXLAN)?;
        Moment::Published.wait(cluster, 0)?;
        let lease = cluster.lease(0)?.value;
        ensure!(lease.matches("\"sha256:").count() == 2, "no digests: {lease}");
        ensure!(nobody_is_told(cluster)? > 0, "no node has the secrets that it may need");
        for moment in Moment::ALL {
            moment.wait(cluster, 0)?;
            nobody_is_told(cluster)?;
        }
        change::wait_at_rest(cluster, VXLAN)
    })?;
    is_over(&cluster)
}

/// A daemon is killed when it has come so far, and has the former backend again.
fn killed_at(moment: Moment) -> Result<()> {
    let mut cluster = with_keys()?;
    nothing_is_lost(&mut cluster, |cluster, traffic| {
        change::put(cluster, VXLAN)?;
        moment.wait(cluster, 0)?;
        cluster.take_daemon(0)?.kill9();
        std::thread::sleep(AWAY);
        traffic.goes_on()?;
        cluster.launch(0)?.wait_ready()?;
        change::wait_at_rest(cluster, VXLAN)
    })?;
    ensure!(said(&cluster, 0, "beginning with the one before")? == 1, "{}", change::describe(&cluster));
    is_over(&cluster)
}

#[test]
fn a_daemon_may_be_killed_when_it_has_published_both_and_has_the_secrets_of_the_former() -> Result<()> {
    killed_at(Moment::Published)
}

#[test]
fn a_daemon_may_be_killed_when_the_new_backend_is_its_main_one_and_has_the_secrets_of_the_former()
-> Result<()> {
    killed_at(Moment::Main)
}

#[test]
fn a_daemon_may_be_killed_when_it_has_said_that_a_backend_with_secrets_goes() -> Result<()> {
    killed_at(Moment::Told)
}

#[test]
fn a_daemon_that_has_lost_the_secrets_says_so_and_begins_with_the_new_backend() -> Result<()> {
    let mut cluster = with_keys()?;
    change::put(&cluster, VXLAN)?;
    Moment::Published.wait(&cluster, 0)?;
    cluster.take_daemon(0)?.kill9();
    let mut kept = cluster.lab().files()?;
    kept.retain(|(path, _)| is_for_secrets(path) && path.starts_with(cluster.node(0).directory()));
    ensure!(kept.len() == 1, "{} files", kept.len());
    std::fs::remove_file(&kept[0].0)?;
    cluster.launch(0)?.wait_ready()?;
    change::wait_at_rest(&mut cluster, VXLAN)?;
    ensure!(said(&cluster, 0, CANNOT_BE_HAD)? == 1, "{}", change::describe(&cluster));
    is_over(&cluster)
}

#[test]
fn a_node_that_joins_and_does_not_know_the_secrets_begins_with_the_new_backend() -> Result<()> {
    let mut cluster = with_keys()?;
    // The middle lasts: on the last node somebody else has the port of the new backend.
    let taken = cluster.node(2).namespace().run(|| UdpSocket::bind("0.0.0.0:8472"))?;
    let taken = taken.context("the port")?;
    nothing_is_lost(&mut cluster, |cluster, _| {
        change::put(cluster, VXLAN)?;
        wait_reached_by(cluster, 0, 1, "vxlan")?;
        let newcomer = cluster.add_node(Place::Near)?;
        cluster.launch(newcomer)?.wait_ready()?;
        cluster.wire_pod(newcomer)?;
        wait_reached_by(cluster, 0, newcomer, "vxlan")?;
        ensure!(said(cluster, newcomer, CANNOT_BE_HAD)? == 1, "{}", change::describe(cluster));
        nobody_is_told(cluster)?;
        drop(taken);
        change::wait_at_rest(cluster, VXLAN)
    })?;
    cluster.pod(3)?.reaches(cluster.pod(2)?)?;
    is_over(&cluster)
}
