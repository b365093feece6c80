//! Where a daemon may not send what probes are made of.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use flannel_lab::{ClusterOptions, artifacts, wait};

use super::{IPV4, prepare_with, probes, wait_ways};

#[test]
fn without_cap_net_raw_peers_are_reached_by_the_plain_way_and_the_operator_is_told() -> Result<()> {
    let place = tempfile::tempdir()?;
    let program = place.path().join("flanneld");
    let real = artifacts::flanneld()?;
    let script = format!(
        "#!/bin/sh\nexec setpriv --bounding-set=-net_raw --inh-caps=-all {} \"$@\"\n",
        real.display()
    );
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let binary = Some(program);
    let mut cluster =
        prepare_with(ClusterOptions { config: IPV4.to_owned(), binary, ..ClusterOptions::default() }, "")?;
    cluster.bring_up()?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    wait_ways(&cluster, 0, 1, &["eth0"])?;
    ensure!(probes(&cluster, 0)?.is_null(), "{}", probes(&cluster, 0)?);
    let said = |cluster: &mut flannel_lab::Cluster| -> Result<Vec<String>> {
        let lines = cluster.daemon(0)?.log().lines().into_iter().map(|line| line.raw().to_owned());
        Ok(lines.filter(|line| line.contains("the ways to peers stay as they are")).collect())
    };
    let words = "peers cannot be probed over IPv4: Operation not permitted (os error 1) (CAP_NET_RAW is needed for it)";
    wait::until_true("the operator is told", || {
        Ok(said(&mut cluster)?.iter().any(|line| line.contains(words)))
    })?;
    ensure!(said(&mut cluster)?.len() == 1, "{:?}", said(&mut cluster)?);
    ensure!(cluster.status(0)?["plugin"]["failures"] == 0, "{}", cluster.status(0)?["plugin"]);
    Ok(())
}
