//! What only etcd does with the network config: connections that break, compactions, data that are lost, users who may not write.

use std::sync::Arc;

use etcd_client::{Permission, PutOptions};

use super::server::Server;
use super::tests::{Proxy, compact, connect, own};
use super::{EtcdOptions, EtcdSecurity, EtcdStore};
use crate::conformance::{Etcd, StoreHarness, next};
use crate::store::{ConfigWritten, LeaseStore as _, StoreError};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_that_was_written_while_the_connection_was_cut_is_told() {
    for compacted in [false, true] {
        let etcd = own().await;
        etcd.write_config("one").await;
        let proxy = Proxy::new(&etcd.server);
        let mut configs = connect(&[format!("http://127.0.0.1:{}", proxy.port)], &etcd.prefix).watch_config();
        assert_eq!(next(&mut configs).await, "one");
        proxy.cut();
        for text in ["two", "three"] {
            etcd.write_config(text).await;
        }
        if compacted {
            compact(&etcd).await;
        }
        proxy.mend();
        assert_eq!(next(&mut configs).await, "three", "compacted: {compacted}");
        etcd.write_config("four").await;
        assert_eq!(next(&mut configs).await, "four", "compacted: {compacted}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_lost_its_data_says_nothing_until_there_is_another_config() {
    let mut server = Server::start();
    let key = "/coreos.com/network/config";
    server.client().await.put(key, "one", None).await.expect("put");
    let mut configs = connect(&[server.endpoint()], "/coreos.com/network").watch_config();
    assert_eq!(next(&mut configs).await, "one");
    server.kill();
    server.wipe();
    server.resume();
    let mut client = server.client().await;
    for text in ["one", "two"] {
        client.put(key, text, None).await.expect("put");
    }
    assert_eq!(next(&mut configs).await, "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_beside_the_config_and_what_is_no_text_are_not_told_of() {
    let etcd = Etcd::new().await;
    let mut client = etcd.client.clone();
    let mut put = async |name: &str, value: &[u8]| {
        client.put(format!("{}/{name}", etcd.prefix), value, None).await.expect("put");
    };
    put("config", b"\xff").await;
    let store = etcd.store();
    let mut configs = Arc::clone(&store).watch_config();
    for (name, value) in
        [("config2", &b"beside"[..]), ("config/x", b"below"), ("config", b"\xfe{"), ("config", b"one")]
    {
        put(name, value).await;
    }
    assert_eq!(next(&mut configs).await, "one");
    put("config", b"\xff").await;
    let written = store.write_network_config("two", Some("one")).await;
    assert!(matches!(written, Ok(ConfigWritten::Overtaken(Some(_)))), "{written:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_that_is_written_lasts() {
    let etcd = Etcd::new().await;
    let mut client = etcd.client.clone();
    let lease = client.lease_grant(600, None).await.expect("granted").id();
    let key = format!("{}/config", etcd.prefix);
    client.put(key.clone(), "one", Some(PutOptions::new().with_lease(lease))).await.expect("put");
    let written = etcd.store().write_network_config("two", Some("one")).await;
    assert_eq!(written, Ok(ConfigWritten::Written));
    client.lease_revoke(lease).await.expect("revoked");
    assert_eq!(etcd.store().network_config().await.as_deref(), Ok("two"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_not_write_the_config_is_told_so() {
    let etcd = own().await;
    etcd.write_config("one").await;
    let mut admin = etcd.client.auth_client();
    for user in ["root", "node"] {
        admin.user_add(user, "pass-1234", None).await.expect("user");
        admin.role_add(user).await.expect("role");
        admin.user_grant_role(user, user).await.expect("grant");
    }
    let key = format!("{}/config", etcd.prefix);
    admin.role_grant_permission("node", Permission::read(key.as_str())).await.expect("permission");
    admin.auth_enable().await.expect("authentication");
    let as_user = |name: &str| {
        let security = EtcdSecurity {
            username: Some(name.to_owned()),
            password: Some("pass-1234".to_owned()),
            ..EtcdSecurity::default()
        };
        let options = EtcdOptions { endpoints: vec![etcd.server.endpoint()], prefix: etcd.prefix.clone() };
        Arc::new(EtcdStore::connect_securely(options, &security).expect("store"))
    };
    let mut configs = as_user("node").watch_config();
    assert_eq!(next(&mut configs).await, "one");
    let error = as_user("node").write_network_config("two", Some("one")).await.expect_err("not allowed");
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&key) && text.contains("--etcd-username"), "{text}");
    let written = as_user("root").write_network_config("two", Some("one")).await;
    assert_eq!(written, Ok(ConfigWritten::Written));
    assert_eq!(next(&mut configs).await, "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_is_away_at_first_is_waited_for() {
    let mut server = Server::start();
    server.client().await.put("/x/config", "one", None).await.expect("put");
    server.kill();
    let store = connect(&[server.endpoint()], "/x");
    let mut configs = Arc::clone(&store).watch_config();
    let error = store.write_network_config("two", Some("one")).await.expect_err("nobody answers");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    server.resume();
    assert_eq!(next(&mut configs).await, "one");
}
