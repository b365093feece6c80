//! Real nodes: kubelet, containerd and kube-proxy, as the lab has them. No daemon of ours takes part: what is shown is that they are worth
//! something to try it on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use flannel_lab::control_plane::nodes::pod_cidrs;
use flannel_lab::kubernetes::{self, image};
use flannel_lab::{Echo, KubernetesCluster, http, wait};
use ipnet::IpNet;
use serde_json::{Value, json};

/// The first address of the services' network, which is the API server's.
const API_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 443);

/// A server in a pod on each node, which says on which, and a Service that leads to that of the same node.
fn servers() -> Value {
    let labels = json!({ "app": "server" });
    let container = json!({
        "name": "server",
        "image": image::BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", "busybox mkdir /www && echo $NODE >/www/node && exec httpd -f -p 80 -h /www"],
        "env": [{ "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }],
        "readinessProbe": { "tcpSocket": { "port": 80 }, "periodSeconds": 1 },
    });
    let daemon_set = json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": { "name": "server" },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "terminationGracePeriodSeconds": 0, "containers": [container] },
            },
        },
    });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "server" },
        "spec": { "selector": labels, "ports": [{ "port": 80 }], "internalTrafficPolicy": "Local" },
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": [daemon_set, service] })
}

#[test]
fn real_nodes_with_any_network_run_pods_and_have_services_that_lead_to_them() -> Result<()> {
    if let Some(reason) = kubernetes::missing()? {
        flannel_test_support::skip(reason);
        return Ok(());
    }
    let mut cluster = KubernetesCluster::start(3)?;
    cluster.write_network()?;
    cluster.wait_ready()?;
    cluster.apply(&servers().to_string())?;
    let pods = cluster.wait_pods("default", "app=server", 3)?;
    assert_eq!(pods.iter().map(|pod| pod.node).collect::<Vec<_>>(), [0, 1, 2]);

    let service = cluster.admin().get("/api/v1/namespaces/default/services/server")?.object()?;
    let service: IpAddr = service["spec"]["clusterIP"].as_str().context("a Service's address")?.parse()?;
    for (pod, node) in pods.iter().zip(cluster.lab().nodes()) {
        let cidr: IpNet = pod_cidrs(&cluster.admin().node(node.name())?)[0].parse()?;
        assert!(cidr.contains(&pod.address), "{pod:?} in {cidr}");
        cluster.enter(pod)?.ping(&Echo::to(node.address().into()))?;
        wait::until_true(&format!("the Service leads to the pod of {}", node.name()), || {
            let answer = http::get(node.namespace(), (service, 80).into(), "/node");
            Ok(answer.is_ok_and(|answer| answer.body.trim() == node.name()))
        })
        .with_context(|| cluster.story())?;
        let version = cluster.plane().client_from(node.namespace(), API_SERVER, None).get("/version")?;
        assert_eq!(version.object()?["gitVersion"], "v1.36.3", "by kube-proxy");
    }
    Ok(())
}
