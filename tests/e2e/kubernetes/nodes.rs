//! Real nodes: kubelet, containerd and kube-proxy, as the lab has them. No daemon of ours takes part: what is shown is that they are worth
//! something to try it on.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use flannel_lab::control_plane::nodes::pod_cidrs;
use flannel_lab::kubernetes::machine::Machine;
use flannel_lab::kubernetes::servers::Reach;
use flannel_lab::{Echo, KubernetesCluster, Lab, Underlay, kubernetes, wait};
use ipnet::IpNet;

/// The first address of the services' network, which is the API server's.
const API_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 443);

/// Who has it may run a cluster: two at once would share two processors among some twenty processes.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a process runs on this machine that sleeps for so many seconds, which nobody else says.
fn somebody_sleeps(seconds: &str) -> Result<bool> {
    for entry in std::fs::read_dir("/proc")? {
        // Most are no processes, or gone meanwhile.
        let line = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).any(|word| word == seconds.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn a_node_is_a_machine_of_its_own_and_nothing_of_it_remains() -> Result<()> {
    if let Some(reason) = kubernetes::missing()? {
        flannel_test_support::skip(reason);
        return Ok(());
    }
    let lab = Lab::new(1, Underlay::default())?;
    let machine = Machine::start(lab.node(0), std::env::var_os("PATH").unwrap_or_default())?;
    let file = format!("/etc/flannel-lab-{}", std::process::id());
    let groups =
        machine.run(machine.command("sh").args(["-c", "touch $0 && cat /proc/self/cgroup", &file]))?;
    assert!(groups.lines().all(|line| line.ends_with(":/") || line.ends_with(":/init")), "{groups}");
    let mut sleeping = machine.command("sleep");
    let seconds = format!("7777{}", std::process::id());
    sleeping.arg(&seconds);
    let service = machine.spawn("sleep", sleeping)?;
    wait::until_true("it sleeps", || somebody_sleeps(&seconds))?;
    let groups = machine.groups().to_vec();
    assert!(!groups.is_empty() && groups.iter().all(|group| group.is_dir()), "{groups:?}");

    drop(service);
    drop(machine);
    assert!(!somebody_sleeps(&seconds)?);
    assert!(!groups.iter().any(|group| group.exists()), "{groups:?}");
    assert!(!Path::new(&file).exists());
    Ok(())
}

#[test]
fn real_nodes_with_any_network_run_pods_and_have_services_that_lead_to_them() -> Result<()> {
    if let Some(reason) = kubernetes::missing()? {
        flannel_test_support::skip(reason);
        return Ok(());
    }
    let _one_at_a_time = turn();
    let mut cluster = KubernetesCluster::start(3)?;
    cluster.write_network()?;
    cluster.wait_ready()?;
    let pods = cluster.serve(Reach::Node)?;
    assert_eq!(pods.iter().map(|pod| pod.node).collect::<Vec<_>>(), [0, 1, 2]);

    for (pod, node) in pods.iter().zip(cluster.lab().nodes()) {
        let cidr: IpNet = pod_cidrs(&cluster.admin().node(node.name())?)[0].parse()?;
        assert!(cidr.contains(&pod.address), "{pod:?} in {cidr}");
        cluster.enter(pod)?.ping(&Echo::to(node.address().into()))?;
        cluster.is_served_by(node.namespace(), &BTreeSet::from([node.name().to_owned()]))?;
        let version = cluster.plane().client_from(node.namespace(), API_SERVER, None).get("/version")?;
        assert_eq!(version.object()?["gitVersion"], "v1.36.3", "by kube-proxy");
    }
    Ok(())
}
