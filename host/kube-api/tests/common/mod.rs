//! What the tests share.

#![allow(dead_code, reason = "not each of the tests takes all of it")]

pub mod told;

use std::path::Path;
use std::time::Duration;

use flannel_fake_kube::FakeKube;
use flannel_kube_api::{ClusterAccess, KubeApi, Patience};

/// With what the keys of the tests' annotations begin.
pub const PREFIX: &str = "flannel.alpha.coreos.com/";

/// Times that a test can wait for, but for those of watches: nothing that is lost on one comes back by itself.
pub const IMPATIENT: Patience =
    Patience { answer: Duration::from_secs(2), piece: Duration::from_secs(1), watch: Duration::from_mins(5) };

/// A client of a server in the clear.
pub fn client(server: &FakeKube) -> KubeApi {
    with_patience(server, IMPATIENT)
}

/// A client that gives silent watches up soon.
pub fn restless_client(server: &FakeKube) -> KubeApi {
    with_patience(server, Patience { watch: Duration::from_millis(300), ..IMPATIENT })
}

fn with_patience(server: &FakeKube, patience: Patience) -> KubeApi {
    let access = ClusterAccess { api_url: Some(server.url()), ..nowhere() };
    KubeApi::with_patience(access, PREFIX, patience)
}

/// A client by a kubeconfig.
pub fn by_kubeconfig(file: &Path) -> KubeApi {
    let access = ClusterAccess { kubeconfig_file: Some(file.to_owned()), ..nowhere() };
    KubeApi::with_patience(access, PREFIX, IMPATIENT)
}

/// In no pod, even if the tests run in one.
pub fn nowhere() -> ClusterAccess {
    let mut access = ClusterAccess::default();
    access.pod.directory = "/nonexistent".into();
    access
}
