//! A plugin that asks an endpoint whose credentials are a Keystone's: tokens come, end and are replaced, and nobody gets to see them.

use std::time::Duration;

use anyhow::{Result, ensure};
use flannel_lab::cloud::openstack::{ENDPOINT, OpenStack, PASSWORD, ROUTER, TOKEN};
use flannel_lab::{Backend, Cluster, ClusterOptions, artifacts, wait};
use serde_json::json;

const OTHER: &str = "another-made-up-password-9876543210";

/// A node whose plugin makes a route and reads the router, again and again. Its status has the last answer.
fn started() -> Result<(Cluster, OpenStack)> {
    let plugin = Some(artifacts::component("http-asker")?);
    let options = ClusterOptions { nodes: 1, plugin, ..ClusterOptions::of(Backend::HostGw, false) };
    let mut cluster = Cluster::prepare(&options)?;
    let cloud = OpenStack::start(cluster.lab())?;
    let path = format!("/v2.0/routers/{ROUTER}");
    let route = json!({ "destination": "10.5.3.0/24", "nexthop": "192.168.77.11" });
    let body = json!({ "router": { "routes": [route] } }).to_string();
    let put = json!({ "endpoint": ENDPOINT, "method": "PUT", "path": format!("{path}/add_extraroutes"), "body": body });
    let get = json!({ "endpoint": ENDPOINT, "path": path, "idempotent": true });
    let backend = json!({ "Type": "http-asker", "Requests": [put, get] });
    cluster.store().put_config(&json!({ "Network": "10.5.0.0/16", "Backend": backend }).to_string())?;
    let file = format!("--http-endpoints={}", cloud.endpoints_file().display());
    cluster.add_arguments(&[&file, &format!("--allow=http:{ENDPOINT}")]);
    cluster.launch(0)?.wait_ready()?;
    Ok((cluster, cloud))
}

/// Waits until the plugin has asked the cloud so often more, and was answered.
fn asked_again(cluster: &mut Cluster, cloud: &OpenStack, times: usize) -> Result<()> {
    let good = || cloud.calls().iter().filter(|(_, status)| *status == 200).count();
    let before = good();
    cluster.daemon(0)?.hang_up()?;
    wait::until_true("the plugin is answered", || Ok(good() >= before + times))?;
    Ok(())
}

#[test]
fn a_plugin_makes_a_route_with_a_token_that_it_never_sees() -> Result<()> {
    let (mut cluster, cloud) = started()?;
    let told = cluster.wait_trouble(0, &["200 ", "10.5.3.0/24"])?;
    asked_again(&mut cluster, &cloud, 4)?;
    assert_eq!(cloud.routes(), [json!({ "destination": "10.5.3.0/24", "nexthop": "192.168.77.11" })]);
    // One token is good for all of them.
    assert_eq!((cloud.tokens(), cloud.refused()), (1, 0));
    let log = cluster.daemon(0)?.log().tail();
    for text in [&told, &log] {
        ensure!(!text.contains(TOKEN) && !text.contains(PASSWORD), "{text}");
    }
    Ok(())
}

#[test]
fn a_token_that_is_revoked_or_ends_is_replaced_and_no_call_fails() -> Result<()> {
    let (mut cluster, cloud) = started()?;
    cluster.wait_trouble(0, &["200 "])?;
    cloud.revoke();
    asked_again(&mut cluster, &cloud, 2)?;
    assert_eq!(cloud.tokens(), 2);
    // The one that was revoked was tried once.
    let refused = cloud.calls().iter().filter(|(_, status)| *status == 401).count();
    assert_eq!(refused, 1, "{:?}", cloud.calls());
    cloud.set_lifetime(Duration::from_secs(2));
    cloud.revoke();
    wait::until_true("a token that ends is replaced", || {
        asked_again(&mut cluster, &cloud, 2)?;
        Ok(cloud.tokens() >= 4)
    })?;
    cluster.wait_trouble(0, &["200 "])?;
    Ok(())
}

#[test]
fn a_password_that_is_not_known_is_told_and_the_rotated_one_counts_without_a_restart() -> Result<()> {
    let (mut cluster, cloud) = started()?;
    cluster.wait_trouble(0, &["200 "])?;
    cloud.set_password(OTHER);
    cloud.revoke();
    cluster.daemon(0)?.hang_up()?;
    let said =
        ["no credentials: user flannel: ", "/v3/auth/tokens answers: 401 Unauthorized: The request you"];
    let told = cluster.wait_trouble(0, &said)?;
    ensure!(cloud.refused() > 0 && !told.contains(PASSWORD), "{told}");
    cloud.write_password(OTHER)?;
    cluster.daemon(0)?.hang_up()?;
    let told = cluster.wait_trouble(0, &["200 "])?;
    ensure!(!told.contains(OTHER), "{told}");
    Ok(())
}
