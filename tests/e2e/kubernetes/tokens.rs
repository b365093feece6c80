//! Tokens that are bound to a pod, the volume that pods have them in, and certificates.

use anyhow::Result;
use flannel_lab::control_plane::Client;
use flannel_lab::control_plane::pods::claims;
use flannel_lab::control_plane::volume::Volume;
use flannel_lab::wait;
use serde_json::{Value, json};

use super::Cluster;

/// Who the server takes somebody for.
fn who_is(client: &Client) -> Result<Value> {
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let answer = client.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review)?.object()?;
    Ok(answer["status"]["userInfo"].clone())
}

#[test]
fn a_token_that_is_bound_to_a_pod_names_its_node_and_ends_with_the_pod() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let admin = cluster.admin();
    let node = admin.create_node("of-tokens", &[], &[])?;
    let pod = admin.create_pod("of-tokens", "of-tokens")?;
    let token = admin.token("of-tokens", 3600)?;

    let said = claims(&token)?;
    let said = &said["kubernetes.io"];
    assert_eq!(said["namespace"], "kube-flannel");
    assert_eq!(said["serviceaccount"]["name"], "flannel");
    assert_eq!(said["pod"], json!({ "name": "of-tokens", "uid": pod["metadata"]["uid"] }));
    assert_eq!(said["node"], json!({ "name": "of-tokens", "uid": node["metadata"]["uid"] }));

    let flannel = cluster.plane.client_with(Some(token));
    assert_eq!(flannel.get("/api/v1/nodes")?.status, 200);
    let user = who_is(&flannel)?;
    assert_eq!(user["username"], "system:serviceaccount:kube-flannel:flannel");
    assert_eq!(user["extra"]["authentication.kubernetes.io/node-name"], json!(["of-tokens"]));

    admin.delete_pod("of-tokens")?;
    // The server keeps what it has found out for some seconds.
    wait::until_true("the token of a deleted pod is refused", || {
        Ok(flannel.get("/api/v1/nodes")?.status == 401)
    })?;
    admin.delete_node("of-tokens")
}

#[test]
fn a_token_for_less_than_ten_minutes_is_refused() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let admin = cluster.admin();
    admin.create_node("of-short-tokens", &[], &[])?;
    admin.create_pod("of-short-tokens", "of-short-tokens")?;
    let error = format!("{:#}", admin.token("of-short-tokens", 599).expect_err("refused"));
    assert!(
        error.contains("HTTP 422") && error.contains("may not specify a duration less than 10 minutes"),
        "{error}"
    );
    admin.delete_pod("of-short-tokens")?;
    admin.delete_node("of-short-tokens")
}

#[test]
fn a_pods_volume_has_token_authority_and_namespace_and_another_token_when_it_is_rotated() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let directory = tempfile::tempdir()?;
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name));
    let mut volume = Volume::new(directory.path(), &cluster.plane, "first")?;
    assert_eq!((read("token")?.as_str(), read("namespace")?.as_str()), ("first", "kube-flannel"));
    assert_eq!(read("ca.crt")?, cluster.plane.authority());
    volume.rotate("second")?;
    assert_eq!((read("token")?.as_str(), read("namespace")?.as_str()), ("second", "kube-flannel"));
    Ok(())
}

#[test]
fn a_certificate_of_the_clusters_authority_says_who_its_owner_is() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let user = who_is(&cluster.plane.client_certified("system:node:node5", &["system:nodes"])?)?;
    let groups = json!(["system:nodes", "system:authenticated"]);
    assert_eq!((&user["username"], &user["groups"]), (&json!("system:node:node5"), &groups));
    Ok(())
}
