//! What clusters are tried with: a server in a pod on each node, which says on which, and a Service that leads to them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::KubernetesCluster;
use super::image::BUSYBOX;
use super::pods::Running;
use crate::{Namespace, http, wait};

/// Of pods and Service.
const NAME: &str = "server";
const PORT: u16 = 80;

/// To which servers the Service leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To all.
    Cluster,
    /// To that on the node of who asks.
    Node,
}

impl KubernetesCluster {
    /// Makes them, and waits until the servers are ready. They come in the order of their nodes.
    pub fn serve(&self, reach: Reach) -> Result<Vec<Running>> {
        self.apply(&objects(reach).to_string())?;
        self.wait_pods("default", &format!("app={NAME}"), self.lab().nodes().len())
    }

    /// Where the Service is.
    pub fn service(&self) -> Result<SocketAddr> {
        let service = self.admin().get(&format!("/api/v1/namespaces/default/services/{NAME}"))?.object()?;
        let address: IpAddr =
            service["spec"]["clusterIP"].as_str().context("a Service's address")?.parse()?;
        Ok((address, PORT).into())
    }

    /// Asks the Service again and again, from somewhere, until the servers of these nodes have answered, and no others. Answers how often it
    /// was asked.
    pub fn is_served_by(&self, from: &Namespace, nodes: &BTreeSet<String>) -> Result<usize> {
        let service = self.service()?;
        let (mut answered, mut asked) = (BTreeSet::new(), 0);
        let what = format!("{}: the Service leads to {nodes:?}", from.name());
        wait::until_true(&what, || {
            asked += 1;
            let answer = http::get(from, service, "/node");
            answered.extend(answer.map(|answer| answer.body.trim().to_owned()));
            Ok(answered == *nodes)
        })
        .with_context(|| format!("{answered:?} have answered\n{}", self.story()))?;
        Ok(asked)
    }
}

fn objects(reach: Reach) -> Value {
    let labels = json!({ "app": NAME });
    let script = "busybox mkdir /www && echo $NODE >/www/node && exec httpd -f -p 80 -h /www";
    let container = json!({
        "name": NAME,
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
        "env": [{ "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }],
        "readinessProbe": { "tcpSocket": { "port": PORT }, "periodSeconds": 1 },
    });
    let daemon_set = json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": { "name": NAME },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "terminationGracePeriodSeconds": 0, "containers": [container] },
            },
        },
    });
    let policy = match reach {
        Reach::Cluster => "Cluster",
        Reach::Node => "Local",
    };
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": NAME },
        "spec": { "selector": labels, "ports": [{ "port": PORT }], "internalTrafficPolicy": policy },
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": [daemon_set, service] })
}
