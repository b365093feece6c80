//! The command lines of the parts.

use std::net::Ipv6Addr;

use super::{ControlPlane, ETCD, PORT, Part, identity, pki};

/// Where etcd listens for other members, of which there are none.
const PEERS: &str = "http://127.0.0.1:2380";

/// Of the controllers those that nodes need on which nothing runs: that of their lifecycles would taint nodes that send no heartbeats.
const FOR_OBJECTS: &str = "node-ipam-controller";
/// Those that pods need, too.
const FOR_KUBELETS: &str = "node-ipam-controller,node-lifecycle-controller,taint-eviction-controller,serviceaccount-controller,\
    root-ca-certificate-publisher-controller,daemonset-controller,deployment-controller,replicaset-controller,endpointslice-controller,\
    garbage-collector-controller,namespace-controller,pod-garbage-collector-controller";

impl ControlPlane {
    /// What a part is started with.
    pub(super) fn arguments(&self, part: Part) -> Vec<String> {
        match part {
            Part::Etcd => self.etcd_arguments(),
            Part::ApiServer => self.api_server_arguments(),
            Part::Controllers => self.controllers_arguments(),
        }
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn etcd_arguments(&self) -> Vec<String> {
        vec![
            format!("--data-dir={}", self.file("etcd")),
            format!("--listen-client-urls=http://{ETCD}"),
            format!("--advertise-client-urls=http://{ETCD}"),
            format!("--listen-peer-urls={PEERS}"),
            format!("--initial-advertise-peer-urls={PEERS}"),
            format!("--initial-cluster=default={PEERS}"),
            // What is lost with the machine here was worth nothing, and the disk is slow.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ]
    }

    fn api_server_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--etcd-servers=http://{ETCD}"),
            format!("--bind-address={}", Ipv6Addr::UNSPECIFIED),
            format!("--secure-port={PORT}"),
            format!("--tls-cert-file={}", self.file(pki::SERVER_CERTIFICATE)),
            format!("--tls-private-key-file={}", self.file(pki::SERVER_KEY)),
            format!("--client-ca-file={}", self.file(pki::AUTHORITY)),
            format!("--service-account-issuer={}", identity::ISSUER),
            format!("--service-account-signing-key-file={}", self.file(pki::TOKEN_KEY)),
            format!("--service-account-key-file={}", self.file(pki::TOKEN_PUBLIC_KEY)),
            format!("--token-auth-file={}", self.file(identity::TOKENS)),
            format!("--service-cluster-ip-range={}", self.mode.services()),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
        ];
        if self.kubelets {
            arguments.push(format!("--advertise-address={}", self.address().ip()));
            arguments.push("--kubelet-preferred-address-types=InternalIP".to_owned());
        } else {
            // Else it looks for an interface with a default route, for the endpoints of the service `kubernetes`, which nobody writes here.
            arguments.push("--advertise-address=127.0.0.1".to_owned());
            arguments.push("--endpoint-reconciler-type=none".to_owned());
            // Pods would wait for the controller that gives each namespace a service account.
            arguments.push("--disable-admission-plugins=ServiceAccount".to_owned());
        }
        arguments.extend_from_slice(&self.flags);
        arguments
    }

    fn controllers_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--kubeconfig={}", self.file(identity::CONTROLLERS_KUBECONFIG)),
            format!("--controllers={}", if self.kubelets { FOR_KUBELETS } else { FOR_OBJECTS }),
            "--allocate-node-cidrs".to_owned(),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials=false".to_owned(),
            // Nobody asks for its health or its metrics.
            "--secure-port=0".to_owned(),
            // By default it fills twenty nodes a second.
            "--kube-api-qps=2000".to_owned(),
            "--kube-api-burst=4000".to_owned(),
        ];
        if self.kubelets {
            arguments.push(format!("--root-ca-file={}", self.file(pki::AUTHORITY)));
        }
        arguments.extend(self.mode.pod_networks().iter().map(|&flag| flag.to_owned()));
        arguments
    }
}
