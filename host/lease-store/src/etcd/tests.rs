//! What only etcd does: etcd leases and reservations, compactions, broken connections, members, users, certificates.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use etcd_client::{PutOptions, Txn, TxnOp};
use flannel_model::codec::{self, key_name};
use tempfile::TempDir;
use tokio::time::sleep;

use super::server::Server;
use super::{EtcdOptions, EtcdSecurity, EtcdStore, join};
use crate::conformance::{CONFIG, Etcd, StoreHarness, View, acquire, attributes, raw, request, subnets};
use crate::store::{LeaseStore, Renewed, StoreError};

/// A connection to etcd that can be cut.
pub(super) struct Proxy {
    pub(super) port: u16,
    /// None: cut.
    streams: Arc<Mutex<Option<Vec<TcpStream>>>>,
}

impl Proxy {
    pub(super) fn new(server: &Server) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("port");
        let port = listener.local_addr().expect("address").port();
        let streams = Arc::new(Mutex::new(Some(Vec::new())));
        let (open, target) = (Arc::clone(&streams), server.endpoint().replace("http://", ""));
        thread::spawn(move || {
            for near in listener.incoming() {
                let mut open = open.lock().expect("lock");
                let (Ok(near), Some(streams)) = (near, open.as_mut()) else { continue };
                let Ok(far) = TcpStream::connect(&target) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) =
                        (from.try_clone().expect("clone"), to.try_clone().expect("clone"));
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                streams.extend([near, far]);
            }
        });
        Self { port, streams }
    }

    pub(super) fn cut(&self) {
        for stream in self.streams.lock().expect("lock").take().into_iter().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn mend(&self) {
        *self.streams.lock().expect("lock") = Some(Vec::new());
    }
}

/// An etcd of the test's own, so that it may be killed and compacted.
pub(super) async fn own() -> Etcd {
    let server = Arc::new(Server::start());
    let client = server.client().await;
    Etcd { server, prefix: "/coreos.com/network".to_owned(), client }
}

pub(super) fn connect(endpoints: &[String], prefix: &str) -> Arc<EtcdStore> {
    let options = EtcdOptions { endpoints: endpoints.to_vec(), prefix: prefix.to_owned() };
    Arc::new(EtcdStore::connect(options).expect("store"))
}

async fn view_through(proxy: &Proxy, etcd: &Etcd) -> View {
    View::new(connect(&[format!("http://127.0.0.1:{}", proxy.port)], &etcd.prefix)).await
}

pub(super) async fn compact(etcd: &Etcd) {
    let mut client = etcd.client.clone();
    let revision = client.get("x", None).await.expect("get").header().expect("header").revision();
    client.compact(revision, None).await.expect("compacted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_while_the_connection_was_cut_are_told_without_a_snapshot() {
    let etcd = own().await;
    etcd.write("10.5.1.0-24", &codec::encode(&attributes(1))).await;
    etcd.write("10.5.2.0-24", &codec::encode(&attributes(2))).await;
    let proxy = Proxy::new(&etcd.server);
    let mut view = view_through(&proxy, &etcd).await;
    proxy.cut();
    etcd.remove("10.5.1.0-24").await;
    etcd.write("10.5.2.0-24", &codec::encode(&attributes(3))).await;
    etcd.write("10.5.4.0-24", &codec::encode(&attributes(4))).await;
    proxy.mend();
    view.until(|view| view.attributes("10.5.4.0-24").is_some()).await;
    assert_eq!(view.attributes("10.5.1.0-24"), None);
    assert_eq!(view.attributes("10.5.2.0-24"), Some(&attributes(3)));
    assert_eq!(view.snapshots, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_are_compacted_are_made_up_for_by_a_snapshot() {
    let etcd = own().await;
    for node in 1..=3 {
        etcd.write(&format!("10.5.{node}.0-24"), &codec::encode(&attributes(node))).await;
    }
    let proxy = Proxy::new(&etcd.server);
    let mut view = view_through(&proxy, &etcd).await;
    proxy.cut();
    etcd.remove("10.5.1.0-24").await;
    etcd.write("10.5.2.0-24", &codec::encode(&attributes(22))).await;
    etcd.write("10.5.3.0-24", "rubbish").await;
    compact(&etcd).await;
    proxy.mend();
    view.until(|view| view.snapshots == 2).await;
    assert_eq!(view.attributes("10.5.1.0-24"), None);
    assert_eq!(view.attributes("10.5.2.0-24"), Some(&attributes(22)));
    assert_eq!(view.attributes("10.5.3.0-24"), Some(&attributes(3)), "what cannot be read stays what it was");
    etcd.write("10.5.5.0-24", &codec::encode(&attributes(5))).await;
    view.until(|view| view.attributes("10.5.5.0-24").is_some()).await;
    assert_eq!(view.snapshots, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_was_away_is_found_again() {
    let mut server = Server::start();
    let mut client = server.client().await;
    let store = connect(&[server.endpoint()], "/coreos.com/network");
    let mut view = View::new(Arc::clone(&store) as Arc<dyn LeaseStore>).await;
    let store: Arc<dyn LeaseStore> = store;
    let one = acquire(&store, &request(CONFIG, 1)).await;
    view.until(|view| view.leases.contains_key(&one.subnets)).await;
    server.kill();
    let error = store.renew(&one).await.expect_err("etcd is away");
    assert!(matches!(&error, StoreError::Unavailable { .. }), "{error}");
    server.resume();
    drop(server.client().await);
    assert!(matches!(store.renew(&one).await, Ok(Renewed::Until(Some(_)))));
    client
        .put("/coreos.com/network/subnets/10.5.9.0-24", codec::encode(&attributes(9)), None)
        .await
        .expect("put");
    view.until(|view| view.attributes("10.5.9.0-24").is_some()).await;
    assert!(view.leases.contains_key(&one.subnets));
    assert_eq!(view.snapshots, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_with_older_data_leads_to_a_snapshot() {
    let mut server = Server::start();
    drop(server.client().await);
    let store: Arc<dyn LeaseStore> = connect(&[server.endpoint()], "/coreos.com/network");
    for node in 1..=5 {
        acquire(&store, &request(CONFIG, node)).await;
    }
    let mut view = View::new(Arc::clone(&store)).await;
    assert_eq!(view.leases.len(), 5);
    server.kill();
    server.wipe();
    server.resume();
    view.until(|view| view.snapshots == 2).await;
    assert!(view.leases.is_empty());
    let lease = acquire(&store, &request(CONFIG, 1)).await;
    view.until(|view| view.leases.contains_key(&lease.subnets)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_lasts_a_day_and_a_renewal_leaves_nothing_behind() {
    let etcd = Etcd::new().await;
    let store = etcd.node();
    let mut client = etcd.client.clone();
    let lease = acquire(&store, &request(CONFIG, 1)).await;
    let key = etcd.key(&key_name(&lease.subnets));
    let first = client.get(key.as_str(), None).await.expect("get").kvs()[0].lease();
    assert_eq!(client.lease_client().time_to_live(first, None).await.expect("lease").granted_ttl(), 86_400);
    assert!(matches!(store.renew(&lease).await, Ok(Renewed::Until(Some(_)))));
    let second = client.get(key.as_str(), None).await.expect("get").kvs()[0].lease();
    assert!(second != 0 && second != first);
    assert_eq!(
        client.lease_client().time_to_live(first, None).await.expect("lease").ttl(),
        -1,
        "it is given back"
    );
    // Keys that somebody has attached to our etcd lease are not ours to delete.
    client.put(etcd.key("other"), "x", Some(PutOptions::new().with_lease(second))).await.expect("put");
    assert!(matches!(store.renew(&lease).await, Ok(Renewed::Until(Some(_)))));
    assert!(etcd.read("other").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_is_kept_for_its_host_without_an_end() {
    let etcd = Etcd::new().await;
    let store = etcd.node();
    let mut before = attributes(1);
    before.backend_data = None;
    etcd.write("10.5.33.0-24", &codec::encode(&before)).await;
    let lease = acquire(&store, &request(CONFIG, 1)).await;
    assert_eq!((lease.subnets, lease.expires), (subnets("10.5.33.0-24"), None));
    assert_eq!(etcd.read("10.5.33.0-24").await, Some(codec::encode(&attributes(1))));
    assert_eq!(store.renew(&lease).await, Ok(Renewed::Until(None)));
    let attached =
        etcd.client.clone().get(etcd.key("10.5.33.0-24"), None).await.expect("get").kvs()[0].lease();
    assert_eq!(attached, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_the_operator_makes_a_reservation_is_one_from_then_on() {
    let etcd = Etcd::new().await;
    let store = etcd.node();
    let lease = acquire(&store, &request(CONFIG, 1)).await;
    let name = key_name(&lease.subnets);
    etcd.write(&name, &codec::encode(&lease.attributes)).await;
    assert_eq!(store.renew(&lease).await, Ok(Renewed::Until(None)));
    assert_eq!(acquire(&store, &request(CONFIG, 1)).await.expires, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_that_does_not_fit_is_left_to_the_operator() {
    let etcd = Etcd::new().await;
    etcd.write("10.6.33.0-24", &codec::encode(&attributes(1))).await;
    let lease = acquire(&etcd.node(), &request(CONFIG, 1)).await;
    assert!(lease.subnets.to_string().starts_with("10.5."), "{}", lease.subnets);
    assert!(etcd.read("10.6.33.0-24").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_beside_the_leases_are_not_looked_at() {
    let etcd = Etcd::new().await;
    let mut view = View::new(etcd.node()).await;
    let mut client = etcd.client.clone();
    for name in ["subnets-old/10.5.1.0-24", "subnets", "subnetsx", "subnets0", "subnets/x/10.5.2.0-24"] {
        let value = codec::encode(&attributes(9));
        client.put(format!("{}/{name}", etcd.prefix), value, None).await.expect("put");
    }
    let lease = acquire(&etcd.node(), &request(CONFIG, 1)).await;
    view.until(|view| view.leases.contains_key(&lease.subnets)).await;
    assert_eq!(view.leases.len(), 1);
    assert_eq!(etcd.node().leases().await.expect("leases").leases.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_are_larger_than_an_answer_may_be_together_are_read_in_smaller_pages() {
    let etcd = own().await;
    let mut kv = etcd.client.clone();
    let value = format!(r#"{{"PublicIP":"192.168.77.9","BackendData":"{}"}}"#, "x".repeat(1_400_000));
    for n in 0..50 {
        kv.put(etcd.key(&format!("10.5.{n}.0-24")), value.clone(), None).await.expect("written");
    }
    let good = r#"{"PublicIP":"192.168.77.9"}"#;
    kv.put(etcd.key("10.5.99.0-24"), good, None).await.expect("written");
    let leases = etcd.node().leases().await.expect("read").leases;
    assert_eq!(leases.len(), 1, "what is too large is left out");
}

/// More than fits in a page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_leases_are_read_in_pages() {
    const COUNT: u32 = 5_000;
    let etcd = Etcd::new().await;
    let mut client = etcd.client.clone();
    let name = |n: u32| format!("10.{}.{}.0-24", n >> 8, n & 0xff);
    let mut published = attributes(1);
    published.backend_data = raw(&format!("\"{}\"", "x".repeat(2_000)));
    for batch in (0..COUNT).collect::<Vec<_>>().chunks(100) {
        let puts = batch.iter().map(|n| {
            published.public_ip = Some((0x0b00_0000 + n).into());
            TxnOp::put(etcd.key(&name(*n)), codec::encode(&published), None)
        });
        let puts: Vec<TxnOp> = puts.collect();
        client.txn(Txn::new().and_then(puts)).await.expect("put");
    }
    assert_eq!(etcd.node().leases().await.expect("leases").leases.len(), 5_000);
    assert_eq!(View::new(etcd.node()).await.leases.len(), 5_000);
    let config = r#"{"Network":"10.0.0.0/8"}"#;
    let lease = acquire(&etcd.node(), &request(config, 1)).await;
    let v4 = lease.subnets.v4.expect("IPv4").addr().to_bits() >> 8 & 0xffff;
    assert!(v4 >= COUNT, "{}", lease.subnets);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_down_is_passed_over() {
    let etcd = Etcd::new().await;
    let closed = TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).expect("port");
    let store: Arc<dyn LeaseStore> =
        connect(&[format!("http://{closed}"), etcd.server.endpoint()], &etcd.prefix);
    let mut view = View::new(Arc::clone(&store)).await;
    let lease = acquire(&store, &request(CONFIG, 1)).await;
    view.until(|view| view.leases.contains_key(&lease.subnets)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_does_not_answer_is_an_error_and_no_hang() {
    let closed = TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).expect("port");
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("port");
    for address in [closed, silent.local_addr().expect("address")] {
        let store = connect(&[format!("http://{address}")], "/x");
        let error = store.network_config().await.expect_err("nobody answers");
        let text = error.to_string();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{text}");
        assert!(text.contains(&address.to_string()) && text.lines().count() == 1, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_passwords_are_used_and_never_told() {
    let etcd = own().await;
    let with = |user: Option<&str>, password: &str| {
        let security = EtcdSecurity {
            username: user.map(ToOwned::to_owned),
            password: Some(password.to_owned()),
            ..EtcdSecurity::default()
        };
        assert!(!format!("{security:?}").contains(password), "{security:?}");
        let options = EtcdOptions { endpoints: vec![etcd.server.endpoint()], prefix: etcd.prefix.clone() };
        EtcdStore::connect_securely(options, &security).expect("store")
    };
    etcd.write_config(CONFIG).await;
    assert!(
        with(Some("root"), "pass-1234").network_config().await.is_ok(),
        "before authentication is turned on"
    );
    let mut admin = etcd.client.auth_client();
    admin.user_add("root", "pass-1234", None).await.expect("user");
    admin.role_add("root").await.expect("role");
    admin.user_grant_role("root", "root").await.expect("grant");
    admin.auth_enable().await.expect("authentication");
    assert_eq!(with(Some("root"), "pass-1234").network_config().await.as_deref(), Ok(CONFIG));
    for (user, password) in
        [(Some("root"), "wrong-9876"), (Some("nobody"), "wrong-9876"), (None, "wrong-9876")]
    {
        let error = with(user, password).network_config().await.expect_err("no way in");
        let text = error.to_string();
        assert!(matches!(error, StoreError::Refused { .. }), "{text}");
        assert!(!text.contains(password) && text.contains("--etcd-username"), "{text}");
    }
    let store: Arc<dyn LeaseStore> = Arc::new(with(Some("root"), "pass-1234"));
    let mut view = View::new(Arc::clone(&store)).await;
    let lease = acquire(&store, &request(CONFIG, 1)).await;
    view.until(|view| view.leases.contains_key(&lease.subnets)).await;
}

/// A directory with an authority's certificate, and with one of a server at 127.0.0.1 and one of a client that it has signed.
fn certificates() -> TempDir {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    };
    let directory = tempfile::tempdir().expect("directory");
    let write =
        |name: &str, text: String| std::fs::write(directory.path().join(name), text).expect("written");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority");
    write("ca.crt", authority.pem());
    for (name, purpose) in
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        params.extended_key_usages = vec![purpose];
        write(&format!("{name}.crt"), params.signed_by(&key, &authority).expect("signed").pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    directory
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_checked_both_ways() {
    let files = certificates();
    let file = |name: &str| files.path().join(name);
    let tls = |ca: bool, client: bool| EtcdSecurity {
        cafile: ca.then(|| file("ca.crt")),
        certfile: client.then(|| file("client.crt")),
        keyfile: client.then(|| file("client.key")),
        ..EtcdSecurity::default()
    };
    for wants_client in [false, true] {
        let server = Server::start_with_tls(files.path(), wants_client);
        for (ca, client) in [(true, true), (true, false), (false, false)] {
            let options = EtcdOptions { endpoints: vec![server.endpoint()], prefix: "/x".to_owned() };
            let store = EtcdStore::connect_securely(options, &tls(ca, client)).expect("store");
            if ca && (client || !wants_client) {
                assert_is_served(&store).await;
            } else {
                let result = store.network_config().await;
                assert!(matches!(result, Err(StoreError::Unavailable { .. })), "{result:?}");
                let text = result.expect_err("refused").to_string();
                assert!(ca || text.contains("--etcd-cafile"), "{text}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_of_version_1_is_shown() {
    let files = certificates();
    let file = |name: &str| files.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(file(name), text).expect("written");
    let own = std::fs::read_to_string(file("ca.crt")).expect("read");
    write("ca.crt", &(own + include_str!("../../../../tests/fixtures/x509-v1/ca.crt")));
    write("client.crt", include_str!("../../../../tests/fixtures/x509-v1/client.crt"));
    write("client.key", include_str!("../../../../tests/fixtures/x509-v1/client.key"));
    let security = EtcdSecurity {
        cafile: Some(file("ca.crt")),
        certfile: Some(file("client.crt")),
        keyfile: Some(file("client.key")),
        ..EtcdSecurity::default()
    };
    let server = Server::start_with_tls(files.path(), true);
    let options = EtcdOptions { endpoints: vec![server.endpoint()], prefix: "/x".to_owned() };
    let store = EtcdStore::connect_securely(options, &security).expect("store");
    assert_is_served(&store).await;
}

/// A server that has just been started answers, that there is no network config.
async fn assert_is_served(store: &EtcdStore) {
    let mut result = store.network_config().await;
    // It listens before it has elected itself.
    for _ in 0..100 {
        if matches!(result, Err(StoreError::Unavailable { .. })) {
            sleep(Duration::from_millis(100)).await;
            result = store.network_config().await;
        }
    }
    assert!(matches!(result, Err(StoreError::NoConfig { .. })), "{result:?}");
}

#[test]
fn wrong_certificate_files_are_refused_with_their_names() {
    let files = certificates();
    let file = |name: &str| files.path().join(name);
    let (certificate, key, none) = (Some(file("client.crt")), Some(file("client.key")), None);
    let missing = Some(std::path::PathBuf::from("/nonexistent/x.pem"));
    for (certfile, keyfile, cafile, expected) in [
        (certificate.clone(), none.clone(), none.clone(), "it needs a key file, too"),
        (none.clone(), key.clone(), none.clone(), "it needs a certificate file, too"),
        (key.clone(), certificate.clone(), none.clone(), "client.key: it has no PEM block of a CERTIFICATE"),
        (none.clone(), none.clone(), missing.clone(), "etcd CA file /nonexistent/x.pem: it cannot be read"),
    ] {
        let security = EtcdSecurity { keyfile, certfile, cafile, ..EtcdSecurity::default() };
        let options =
            EtcdOptions { endpoints: vec!["https://127.0.0.1:1".to_owned()], prefix: String::new() };
        let error = EtcdStore::connect_securely(options, &security).err().expect(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// The certificate of a server at an address that is signed with its own key, as its own authority's. `days`: for how long it is valid.
fn own_authority(address: &str, days: (i32, i32)) -> TempDir {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
    let directory = tempfile::tempdir().expect("directory");
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(vec![address.to_owned()]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.not_before, params.not_after) = (date_time_ymd(days.0, 1, 1), date_time_ymd(days.1, 1, 1));
    let certificate = params.self_signed(&key).expect("certificate").pem();
    for (name, text) in
        [("server.crt", &certificate), ("ca.crt", &certificate), ("server.key", &key.serialize_pem())]
    {
        std::fs::write(directory.path().join(name), text).expect("written");
    }
    directory
}

/// What comes of reading the config from a server that shows the first certificate, by somebody who trusts the second.
async fn read_trusting(server: &TempDir, trusted: &TempDir) -> Result<String, StoreError> {
    let etcd = Server::start_with_tls(server.path(), false);
    let options = EtcdOptions { endpoints: vec![etcd.endpoint()], prefix: "/x".to_owned() };
    let security = EtcdSecurity { cafile: Some(trusted.path().join("ca.crt")), ..EtcdSecurity::default() };
    let store = EtcdStore::connect_securely(options, &security).expect("store");
    let mut result = store.network_config().await;
    for _ in 0..100 {
        // It listens before it has elected itself.
        match &result {
            Err(StoreError::Unavailable { reason, .. }) if !reason.contains("certificate") => {}
            _ => break,
        }
        sleep(Duration::from_millis(100)).await;
        result = store.network_config().await;
    }
    result
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_its_own_authority_is_taken() {
    let certificate = own_authority("127.0.0.1", (2020, 2999));
    let result = read_trusting(&certificate, &certificate).await;
    assert!(matches!(result, Err(StoreError::NoConfig { .. })), "{result:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_its_own_authority_is_refused_for_another_name_time_or_trust() {
    let right = own_authority("127.0.0.1", (2020, 2999));
    for (what, server, trusted) in [
        ("name", &own_authority("127.0.0.2", (2020, 2999)), None),
        ("time", &own_authority("127.0.0.1", (2020, 2021)), None),
        ("trust", &own_authority("127.0.0.1", (2020, 2999)), Some(&right)),
    ] {
        let error = read_trusting(server, trusted.unwrap_or(server)).await.expect_err(what);
        assert!(matches!(error, StoreError::Unavailable { .. }), "{what}: {error}");
        let text = error.to_string();
        assert!(text.contains("certificate") && text.contains("--etcd-cafile"), "{what}: {text}");
    }
}

#[test]
fn a_key_that_does_not_fit_its_certificate_is_refused_with_both_files() {
    let files = certificates();
    let file = |name: &str| Some(files.path().join(name));
    let security =
        EtcdSecurity { certfile: file("client.crt"), keyfile: file("server.key"), ..EtcdSecurity::default() };
    let options = EtcdOptions { endpoints: vec!["https://127.0.0.1:1".to_owned()], prefix: String::new() };
    let error = EtcdStore::connect_securely(options, &security).err().expect("refused");
    assert!(matches!(error, StoreError::Setup { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("server.key: it is not the key of the certificate in"), "{text}");
    assert!(text.contains("client.crt"), "{text}");
}

/// What is said of an endpoint, once etcd itself serves.
async fn said_of(endpoint: String) -> String {
    let options = EtcdOptions { endpoints: vec![endpoint], prefix: "/x".to_owned() };
    let store = EtcdStore::connect(options).expect("store");
    let error = store.network_config().await.expect_err("another protocol");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_another_protocol_is_told_which_is_right() {
    let (files, plain) = (certificates(), Server::shared());
    let secure = Server::start_with_tls(files.path(), false);
    plain.client().await;
    let said = said_of(secure.endpoint().replace("https://", "http://")).await;
    assert!(said.contains("right would be https"), "{said}");
    let said = said_of(plain.endpoint().replace("http://", "https://")).await;
    assert!(said.contains("right would be http:"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_is_no_reason_to_advise_another_protocol() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("listener");
    let port = listener.local_addr().expect("address").port();
    // As an etcd that is about to end: it takes connections, and closes them.
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    for scheme in ["http", "https"] {
        let said = said_of(format!("{scheme}://127.0.0.1:{port}")).await;
        assert!(!said.contains("right would be") && !said.contains("--etcd-"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_client_certificate_that_etcd_knows_it_is_said_that_it_wants_one() {
    let (files, others) = (certificates(), certificates());
    let server = Server::start_with_tls(files.path(), true);
    for known in [None, Some(others.path())] {
        let options = EtcdOptions { endpoints: vec![server.endpoint()], prefix: "/x".to_owned() };
        let security = EtcdSecurity {
            cafile: Some(files.path().join("ca.crt")),
            certfile: known.map(|directory| directory.join("client.crt")),
            keyfile: known.map(|directory| directory.join("client.key")),
            ..EtcdSecurity::default()
        };
        let store = EtcdStore::connect_securely(options, &security).expect("store");
        let said = store.network_config().await.expect_err("refused").to_string();
        assert!(said.contains("--etcd-certfile"), "{said}");
    }
}

#[tokio::test]
async fn endpoints_are_taken_as_upstreams_client_takes_them() {
    let taken = ["HTTP://h:2379", "", " https://u:canary@h2:2379/ ", "h3:2379", "u:canary@[::1]:2379"];
    let options = EtcdOptions { endpoints: taken.map(ToOwned::to_owned).to_vec(), prefix: "/x".to_owned() };
    let store = EtcdStore::connect(options).expect("store");
    let place = store.config_place();
    assert_eq!(
        place,
        "key /x/config in etcd at http://h:2379, https://h2:2379, http://h3:2379, http://[::1]:2379"
    );
}

#[test]
fn wrong_endpoints_are_refused() {
    for endpoints in [
        &[][..],
        &[""],
        &["ftp://h:2379"],
        &["http://"],
        &["http://a b"],
        &["http://h:2379/x"],
        &["http://u:canary@"],
        &["ftp://u:canary@h:2379"],
        &["http://u:canary@h:2379/x"],
        &["u:can/ary@h:2379 h"],
    ] {
        let options = EtcdOptions {
            endpoints: endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect(),
            prefix: "/x".to_owned(),
        };
        let error = EtcdStore::connect(options).err().unwrap_or_else(|| panic!("{endpoints:?}")).to_string();
        assert!(error.contains("http://127.0.0.1:2379") && error.lines().count() == 1, "{error}");
        assert!(!error.contains("canary") && !error.contains("ary@"), "{error}");
    }
}

#[test]
fn prefixes_are_cleaned_like_paths() {
    for (prefix, key) in [
        ("/coreos.com/network", "/coreos.com/network/config"),
        ("/coreos.com/network/", "/coreos.com/network/config"),
        ("//a///b//", "/a/b/config"),
        ("foo//", "foo/config"),
        ("", "config"),
        ("/", "/config"),
        ("/a/./b/../c", "/a/c/config"),
        ("/../a", "/a/config"),
        ("../a", "../a/config"),
    ] {
        assert_eq!(join(prefix, "config"), key, "{prefix}");
    }
}
