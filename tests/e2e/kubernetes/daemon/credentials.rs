//! With which credentials the API server is asked: those of a pod, which are exchanged while it runs.

use anyhow::Result;
use flannel_lab::control_plane::volume::Volume;
use flannel_lab::{Backend, Cluster, wait};

use super::{kube, strip_and_wait, two_nodes};

/// In a pod there is no kubeconfig: the variables and the volume say where the API server is, and who asks.
fn in_pod(cluster: &mut Cluster, pod: &str) -> Result<Volume> {
    let name = cluster.node(0).name().to_owned();
    let directory = cluster.lab().directory().join("service-account");
    std::fs::create_dir_all(&directory)?;
    let kube = kube(cluster)?;
    kube.admin().create_pod(pod, &name)?;
    let volume = Volume::new(&directory, &kube.plane, &kube.admin().token(pod, 600)?)?;
    let mut options = cluster.options().clone().service_account(&directory);
    options = options.arg("--kubeconfig-file=").env("NODE_NAME", "");
    options = options.env("POD_NAME", pod).env("POD_NAMESPACE", "kube-flannel");
    for (name, value) in kube.plane.variables(kube.plane.address()) {
        options = options.env(name, &value);
    }
    cluster.set_options(options);
    Ok(volume)
}

#[test]
fn in_a_pod_its_own_credentials_are_used_and_new_ones_when_they_are_exchanged() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    let mut volume = in_pod(&mut cluster, "kube-flannel-ds-1")?;
    cluster.launch(0)?.wait_ready()?;
    let name = cluster.node(0).name().to_owned();
    let admin = kube(&cluster)?.admin();
    // The token of a pod that is gone is refused some seconds later.
    let first = kube(&cluster)?.plane.client_with(Some(admin.token("kube-flannel-ds-1", 600)?));
    admin.delete_pod("kube-flannel-ds-1")?;
    wait::until_true("the token is refused", || Ok(first.get("/api/v1/nodes")?.status == 401))?;
    admin.create_pod("kube-flannel-ds-2", &name)?;
    volume.rotate(&admin.token("kube-flannel-ds-2", 600)?)?;
    strip_and_wait(&admin, &name)
}
