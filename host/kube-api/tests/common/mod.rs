//! What the tests share.

#![allow(dead_code, reason = "not each of the tests takes all of it")]

use std::path::Path;
use std::time::Duration;

use flannel_fake_kube::FakeKube;
use flannel_kube_api::{ClusterAccess, KubeApi, Patience};

/// With what the keys of the tests' annotations begin.
pub const PREFIX: &str = "flannel.alpha.coreos.com/";

/// Times that a test can wait for.
pub const IMPATIENT: Patience =
    Patience { answer: Duration::from_secs(2), piece: Duration::from_secs(1), watch: Duration::from_secs(2) };

/// A client of a server in the clear.
pub fn client(server: &FakeKube) -> KubeApi {
    let access = ClusterAccess { api_url: Some(server.url()), ..nowhere() };
    KubeApi::with_patience(access, PREFIX, IMPATIENT)
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
