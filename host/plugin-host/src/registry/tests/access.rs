//! Who is let in, whom credentials are shown to, and that they are never said.

use std::io;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

/// `name:s3cret-word`
const PAIR: &str = "bmFtZTpzM2NyZXQtd29yZA==";
/// All that must not be said.
const SECRETS: [&str; 3] = [PAIR, "s3cret-word", "the-token"];

fn log_in(bench: &Bench, pair: &str) {
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"{pair}"}}}}}}"#, bench.server.address);
    std::fs::write(bench.directory.path().join("config.json"), config).expect("written");
}

fn token_door(bench: &Bench, wanted: Option<String>) -> Door {
    Door::Token { realm: format!("http://{}/token", bench.server.address), wanted }
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn credentials_open_the_door_and_are_in_no_log_and_no_error() {
    let bench = Bench::new().await;
    bench.server.publish("v1", COMPONENT);
    let written = Written::default();
    let everything = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || everything.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    // With one subscriber, which lines are of interest is decided, once for all, by the thread that comes by first, which may be
    // another test's and have none. With two, both are asked.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let basic = format!("Basic {PAIR}");
    let mut errors = Vec::new();
    for door in [Door::Basic(basic.clone()), token_door(&bench, Some(basic))] {
        bench.server.state().door = door;
        let _ = std::fs::remove_dir_all(bench.cache());
        let _ = std::fs::remove_file(bench.directory.path().join("config.json"));
        let error = bench.refusal(":v1").await;
        let place = format!("config.json has none for {}", bench.server.address);
        assert!(error.contains("demands credentials") && error.contains(&place), "{error}");
        log_in(&bench, PAIR);
        assert_eq!(bench.pull(":v1").await.expect("let in").component, COMPONENT);
        let good = std::mem::replace(&mut bench.server.state().manners, Manners::Status(418));
        errors.push(bench.refusal(":v1").await);
        bench.server.state().manners = good;
        // name:wrong
        log_in(&bench, "bmFtZTp3cm9uZw==");
        errors.push(bench.refusal(":v1").await);
        assert!(errors.last().expect("an error").contains("refuses the credentials from /"), "{errors:?}");
    }
    let log = String::from_utf8(written.0.lock().expect("no panic").clone()).expect("text");
    assert!(log.contains("is not pinned"), "{log}");
    for secret in SECRETS.iter().chain(&["bmFtZTp3cm9uZw=="]) {
        assert!(!log.contains(secret), "{secret} in the log");
        assert!(errors.iter().all(|error| !error.contains(secret)), "{secret} in {errors:?}");
    }
}

#[tokio::test]
async fn a_registry_that_gives_tokens_to_everybody_needs_no_credentials() {
    let bench = Bench::new().await;
    bench.server.publish("v1", COMPONENT);
    bench.server.state().door = token_door(&bench, None);
    bench.pull(":v1").await.expect("pulled");
    let seen = std::mem::take(&mut bench.server.state().seen);
    let (question, authorization) = &seen[1];
    assert_eq!(question, "GET /token?service=a%20b&scope=repository%3Aplugins%2Ftest%3Apull");
    assert_eq!(*authorization, None);
}

#[tokio::test]
async fn a_push_asks_for_a_token_to_push() {
    let bench = Bench::new().await;
    bench.server.state().door = token_door(&bench, Some(format!("Basic {PAIR}")));
    let error =
        bench.registries.push(COMPONENT.to_vec(), &bench.reference(":v1"), Publication::default()).await;
    assert!(error.expect_err("refused").to_string().contains("demands credentials"));
    log_in(&bench, PAIR);
    bench
        .registries
        .push(COMPONENT.to_vec(), &bench.reference(":v1"), Publication::default())
        .await
        .expect("pushed");
    assert!(bench.server.state().seen.iter().any(|(question, _)| question.ends_with("%3Apull%2Cpush")));
    assert_eq!(bench.pull(":v1").await.expect("pulled").component, COMPONENT);
}

#[tokio::test]
async fn whom_the_registry_points_to_gets_no_credentials() {
    let (bench, elsewhere) = (Bench::new().await, Server::start().await);
    bench.server.publish("v1", COMPONENT);
    elsewhere.publish("v1", COMPONENT);
    log_in(&bench, PAIR);
    bench.server.state().door = Door::Basic(format!("Basic {PAIR}"));
    let there = format!("http://{}/v2/plugins/test/blobs/{}", elsewhere.address, Digest::of(COMPONENT));
    bench.server.state().manners = Manners::Elsewhere(there);
    assert_eq!(bench.pull(":v1").await.expect("pulled").component, COMPONENT);
    let seen = std::mem::take(&mut elsewhere.state().seen);
    assert_eq!(seen.iter().map(|(_, authorization)| authorization.clone()).collect::<Vec<_>>(), [None]);
}

#[tokio::test]
async fn credentials_are_not_sent_to_a_token_server_without_https() {
    let bench = Bench::new().await;
    bench.server.publish("v1", COMPONENT);
    log_in(&bench, PAIR);
    for (challenge, said) in [
        ("Bearer realm=\"http://192.0.2.1/token\"", "not to be had by HTTPS"),
        ("Negotiate", "not known here"),
    ] {
        bench.server.state().door = Door::Shut(challenge);
        let error = bench.refusal(":v1").await;
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn with_https_the_registry_has_to_be_vouched_for() {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &authority).expect("a certificate");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a certificate and its key");
    let secure = Server::start_with(Some(TlsAcceptor::from(Arc::new(config)))).await;
    secure.publish("v1", COMPONENT);

    let mut bench = Bench::new().await;
    bench.server.publish("v1", COMPONENT);
    // A registry on loopback is not asked by HTTPS, but one may point there.
    let there = format!(
        "https://localhost:{}/v2/plugins/test/blobs/{}",
        secure.address.port(),
        Digest::of(COMPONENT)
    );
    bench.server.state().manners = Manners::Elsewhere(there);
    let file = bench.directory.path().join("authorities.pem");
    let others = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    for (pem, said) in [
        (String::new(), "authorities.pem has none"),
        (others.cert.pem(), "cannot be connected to: invalid peer certificate: UnknownIssuer"),
    ] {
        std::fs::write(&file, pem).expect("written");
        bench.registries.http = Http::new(Some(file.clone()), CleartextPolicy::Loopback, Timeouts::default());
        let error = bench.refusal(":v1").await;
        assert!(error.contains(said), "{error}");
    }
    std::fs::write(&file, authority.pem()).expect("written");
    bench.registries.http = Http::new(Some(file), CleartextPolicy::Loopback, Timeouts::default());
    assert_eq!(bench.pull(":v1").await.expect("pulled").component, COMPONENT);
}
