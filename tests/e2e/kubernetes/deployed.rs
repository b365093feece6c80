//! The manifest that users apply, on real nodes: pods of any nodes reach each other, and Services lead to pods of any nodes.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flannel_lab::kubernetes::deploy;
use flannel_lab::kubernetes::servers::Reach;
use flannel_lab::{KubernetesCluster, Namespace, Pod, Traffic, wait};

use super::nodes;

/// A datagram as large as those of DNS used to be.
const DATAGRAM: [u8; 512] = [0x5a; 512];
const PATIENCE: Duration = Duration::from_secs(5);
/// How long traffic flows.
const WHILE: Duration = Duration::from_secs(2);

/// It gets from one pod to the other, and back.
fn a_datagram_passes(from: &Pod, to: &Pod) -> Result<()> {
    let open = |namespace: &Namespace, address: IpAddr| -> Result<UdpSocket> {
        let socket = namespace.run(|| UdpSocket::bind(SocketAddr::new(address, 0)))??;
        socket.set_read_timeout(Some(wait::scaled(PATIENCE)))?;
        Ok(socket)
    };
    let (client, server) = (open(from.namespace(), from.ipv4()?)?, open(to.namespace(), to.ipv4()?)?);
    let mut buffer = [0; 1500];
    client.send_to(&DATAGRAM, server.local_addr()?)?;
    let (length, sender) = server.recv_from(&mut buffer).context("the datagram was lost")?;
    ensure!(buffer[..length] == DATAGRAM && sender == client.local_addr()?, "{length} bytes from {sender}");
    server.send_to(&DATAGRAM, sender)?;
    let length = client.recv(&mut buffer).context("its answer was lost")?;
    ensure!(buffer[..length] == DATAGRAM, "{length} bytes came back");
    Ok(())
}

#[test]
fn with_our_manifest_pods_of_real_nodes_reach_each_other_and_services_lead_to_all() -> Result<()> {
    if let Some(reason) = deploy::missing()? {
        flannel_test_support::skip(reason);
        return Ok(());
    }
    let _one_at_a_time = nodes::turn();
    let mut cluster = KubernetesCluster::start(3)?;
    cluster.deploy()?;
    cluster.wait_ready()?;

    let running = cluster.serve(Reach::Cluster)?;
    let pods = running.iter().map(|pod| cluster.enter(pod)).collect::<Result<Vec<_>>>()?;
    for from in &pods {
        for to in pods.iter().filter(|to| to.addresses() != from.addresses()) {
            from.reaches(to)?;
            a_datagram_passes(from, to)?;
        }
    }
    let traffic = Traffic::among(&pods)?;
    std::thread::sleep(WHILE);
    traffic.stop()?.assert_clean();

    let all: BTreeSet<String> = cluster.lab().nodes().iter().map(|node| node.name().to_owned()).collect();
    pods.iter().try_for_each(|pod| cluster.is_served_by(pod.namespace(), &all).map(drop))
}
