//! Credentials of all kinds, and what happens when they change.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::{IMPATIENT, PREFIX, by_kubeconfig};
use flannel_fake_kube::{Authority, FakeKube, Fault, node};
use flannel_kube_api::{ClusterAccess, KubeApi, KubeError, PodEnvironment};
use tempfile::TempDir;

/// A server by TLS, and a directory with its authority.
async fn server() -> (FakeKube, Authority, TempDir) {
    let authority = Authority::new();
    let server = FakeKube::start_with_tls(&authority).await;
    server.create(node("n0", &[], &[]));
    let directory = tempfile::tempdir().expect("a directory");
    write(&directory, "ca.crt", &authority.pem());
    (server, authority, directory)
}

fn write(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let file = directory.path().join(name);
    fs::write(&file, text).expect("written");
    file
}

/// A kubeconfig for a server: `cluster` and `user` are what else these have, in YAML's flow style.
fn kubeconfig(directory: &TempDir, url: &str, cluster: &str, user: &str) -> PathBuf {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         clusters: [{{name: k, cluster: {{server: '{url}', {cluster}}}}}]\n\
         users: [{{name: u, user: {{{user}}}}}]\n"
    );
    write(directory, "kubeconfig", &text)
}

const CA: &str = "certificate-authority: ca.crt";

async fn is_let_in(client: &KubeApi) -> bool {
    match client.node("n0").await {
        Ok(_) => true,
        Err(KubeError::Unauthorized { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_token_in_a_kubeconfig_lets_in() {
    let (server, _, directory) = server().await;
    server.set_token("right");
    let with = |token: &str| {
        let user = format!("token: {token}");
        by_kubeconfig(&kubeconfig(&directory, &server.url(), CA, &user))
    };
    assert!(is_let_in(&with("right")).await);
    assert!(!is_let_in(&with("wrong")).await);
}

#[tokio::test]
async fn a_changed_token_file_counts_at_once() {
    let (server, _, directory) = server().await;
    write(&directory, "token", "first\n");
    server.set_token("first");
    let client = by_kubeconfig(&kubeconfig(&directory, &server.url(), CA, "tokenFile: token"));
    assert!(is_let_in(&client).await);
    server.set_token("second");
    assert!(!is_let_in(&client).await);
    write(&directory, "token", "second\n");
    let before = server.requests().len();
    assert!(is_let_in(&client).await);
    assert_eq!(server.requests().len() - before, 1);
}

#[tokio::test]
async fn a_pods_token_is_followed_through_the_links_of_its_volume() {
    let (server, authority, _) = server().await;
    let directory = tempfile::tempdir().expect("a directory");
    // As kubelets do it: the files are links into a link that is replaced.
    let generation = |name: &str, token: &str| {
        let folder = directory.path().join(name);
        fs::create_dir(&folder).expect("made");
        fs::write(folder.join("token"), token).expect("written");
        fs::write(folder.join("ca.crt"), authority.pem()).expect("written");
        let new = directory.path().join("..data_tmp");
        symlink(name, &new).expect("linked");
        fs::rename(new, directory.path().join("..data")).expect("replaced");
    };
    generation("..1", "first");
    for file in ["token", "ca.crt"] {
        symlink(Path::new("..data").join(file), directory.path().join(file)).expect("linked");
    }
    let address = server.address();
    let pod = PodEnvironment {
        host: Some(address.ip().to_string()),
        port: Some(address.port().to_string()),
        directory: directory.path().to_owned(),
    };
    let client = KubeApi::with_patience(ClusterAccess { pod, ..ClusterAccess::default() }, PREFIX, IMPATIENT);
    server.set_token("first");
    assert!(is_let_in(&client).await);
    server.set_token("other");
    generation("..2", "other");
    assert!(is_let_in(&client).await);
    assert!(server.requests().iter().all(|request| request.headers.contains_key("authorization")));
}

#[tokio::test]
async fn credentials_that_are_refused_are_read_again_and_tried_once_more() {
    let (server, _, directory) = server().await;
    let plugin = write(
        &directory,
        "plugin",
        "#!/bin/sh\ncd \"$(dirname \"$0\")\"\n\
         echo '{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{\"token\":\"'$(cat now)'\"}}'\n",
    );
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).expect("made a program");
    let user =
        "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin, interactiveMode: Never}";
    let client = by_kubeconfig(&kubeconfig(&directory, &server.url(), CA, user));
    write(&directory, "now", "first");
    server.set_token("first");
    assert!(is_let_in(&client).await);
    write(&directory, "now", "second");
    server.set_token("second");
    assert!(is_let_in(&client).await);
    assert_eq!(server.requests().len(), 3);
}

/// As the daemon asks: by threads that may not start programs.
fn on_confined_threads<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    flannel_privileges::start_helper().expect("a thread");
    let confined = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(|| flannel_privileges::confine(flannel_privileges::Profile::Network))
        .enable_all()
        .build()
        .expect("a runtime");
    let work = confined.spawn(work);
    let outcome = confined.block_on(work).expect("no panic");
    confined.shutdown_background();
    outcome
}

#[test]
fn a_plugin_is_run_for_threads_that_may_run_nothing_and_again_before_its_token_ends() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (server, _, directory) = runtime.block_on(server());
    // The first token ends so soon that it is renewed before it is used.
    let plugin = write(
        &directory,
        "plugin",
        "#!/bin/sh\ncd \"$(dirname \"$0\")\"\necho run >> runs\nlasts=3600; [ $(wc -l < runs) -gt 1 ] || lasts=30\n\
         ends=$(date -u -d @$(($(date +%s) + lasts)) +%Y-%m-%dT%H:%M:%SZ)\n\
         echo '{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{\"token\":\"right\",\"expirationTimestamp\":\"'$ends'\"}}'\n",
    );
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).expect("made a program");
    let user =
        "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin, interactiveMode: Never}";
    server.set_token("right");
    let file = kubeconfig(&directory, &server.url(), CA, user);
    let is_in = on_confined_threads(async move {
        let client = by_kubeconfig(&file);
        is_let_in(&client).await && is_let_in(&client).await
    });
    assert!(is_in);
    let runs = fs::read_to_string(directory.path().join("runs")).expect("it has run");
    assert_eq!(runs.lines().count(), 2);
}

#[tokio::test]
async fn a_plugin_that_fails_is_named_and_its_output_is_not_shown() {
    let (server, _, directory) = server().await;
    let plugin = write(&directory, "plugin", "#!/bin/sh\necho s3cret\necho no login >&2\nexit 3\n");
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).expect("made a program");
    let user =
        "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin, interactiveMode: Never}";
    let client = by_kubeconfig(&kubeconfig(&directory, &server.url(), CA, user));
    let error = client.node("n0").await.expect_err("an error").to_string();
    assert!(error.contains("plugin") && error.contains("exit status: 3: no login"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
}

#[tokio::test]
async fn client_certificates_are_shown_and_followed_when_their_files_change() {
    let (server, authority, directory) = server().await;
    let (first, second) = (authority.client(), authority.client());
    let put = |identity: &flannel_fake_kube::Identity| {
        write(&directory, "client.crt", &identity.certificate);
        write(&directory, "client.key", &identity.key);
    };
    put(&first);
    let user = "client-certificate: client.crt, client-key: client.key";
    let client = by_kubeconfig(&kubeconfig(&directory, &server.url(), CA, user));
    assert!(is_let_in(&client).await);
    put(&second);
    assert!(is_let_in(&client).await);
    let shown: Vec<_> = server.requests().into_iter().filter_map(|request| request.certificate).collect();
    assert_eq!(shown, [first.der, second.der]);
}

#[tokio::test]
async fn credentials_are_used_on_while_changed_ones_make_no_sense() {
    let (server, _, directory) = server().await;
    server.set_token("right");
    let file = kubeconfig(&directory, &server.url(), CA, "token: right");
    let client = by_kubeconfig(&file);
    assert!(is_let_in(&client).await);
    let text = fs::read_to_string(&file).expect("read");
    fs::write(&file, &text[..text.len() / 2]).expect("written");
    assert!(is_let_in(&client).await);
    fs::remove_file(&file).expect("removed");
    assert!(is_let_in(&client).await);
    fs::write(&file, text.replace("right", "wrong")).expect("written");
    assert!(!is_let_in(&client).await);
}

#[tokio::test]
async fn another_authority_counts_once_its_file_has_it() {
    let (_, _, directory) = server().await;
    let (old, new) = (Authority::new(), Authority::new());
    let server = FakeKube::start_with_tls(&new).await;
    server.create(node("n0", &[], &[]));
    write(&directory, "ca.crt", &old.pem());
    let client = by_kubeconfig(&kubeconfig(&directory, &server.url(), CA, ""));
    let error = client.node("n0").await.expect_err("an error");
    assert!(matches!(error, KubeError::Unreachable { .. }), "{error:?}");
    write(&directory, "ca.crt", &new.pem());
    assert!(is_let_in(&client).await);
}

#[tokio::test]
async fn a_kubeconfig_may_name_another_server_name_or_trust_any_certificate() {
    let authority = Authority::new();
    let server = FakeKube::start_with_names(&authority, &["kube.example"]).await;
    server.create(node("n0", &[], &[]));
    let directory = tempfile::tempdir().expect("a directory");
    write(&directory, "ca.crt", &authority.pem());
    for (cluster, is_trusted) in [
        (CA, false),
        ("certificate-authority: ca.crt, tls-server-name: kube.example", true),
        ("insecure-skip-tls-verify: true", true),
    ] {
        let client = by_kubeconfig(&kubeconfig(&directory, &server.url(), cluster, ""));
        let answer = client.node("n0").await;
        assert_eq!(answer.is_ok(), is_trusted, "{cluster}: {answer:?}");
    }
}

#[tokio::test]
async fn a_kubeconfig_may_act_as_somebody_else() {
    let (server, _, directory) = server().await;
    let user = "token: t, as: somebody, as-groups: [g1]";
    let client = by_kubeconfig(&kubeconfig(&directory, &server.url(), CA, user));
    assert!(is_let_in(&client).await);
    let headers = server.requests()[0].headers.clone();
    assert_eq!(
        (headers["impersonate-user"].as_str(), headers["impersonate-group"].as_str()),
        ("somebody", "g1")
    );
}

#[tokio::test]
async fn a_kubeconfig_may_name_a_proxy() {
    let (server, _, directory) = server().await;
    // Refuses to connect anybody, and keeps what it was asked.
    let proxy = FakeKube::start().await;
    proxy.add_fault(Fault::status("CONNECT", usize::MAX, 403));
    let cluster = format!("{CA}, proxy-url: '{}'", proxy.url());
    let client = by_kubeconfig(&kubeconfig(&directory, &server.url(), &cluster, ""));
    assert!(client.node("n0").await.is_err());
    assert_eq!(proxy.requests()[0].line(), format!("CONNECT {}", server.address()));
}
