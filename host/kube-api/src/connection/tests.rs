use std::path::Path;

use tempfile::TempDir;

use super::*;

/// A directory as that of a pod's service account, of a cluster at these.
fn pod(host: &str, port: &str) -> (TempDir, PodEnvironment) {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("token"), "pod-token\n").expect("written");
    std::fs::write(directory.path().join("ca.crt"), flannel_fake_kube::Authority::new().pem())
        .expect("written");
    let pod = PodEnvironment {
        host: Some(host.to_owned()),
        port: Some(port.to_owned()),
        directory: directory.path().to_owned(),
    };
    (directory, pod)
}

fn access(url: Option<&str>, file: Option<&Path>, pod: &PodEnvironment) -> ClusterAccess {
    ClusterAccess {
        api_url: url.map(str::to_owned),
        kubeconfig_file: file.map(Path::to_owned),
        pod: pod.clone(),
    }
}

fn write(directory: &TempDir, text: &str) -> PathBuf {
    let file = directory.path().join("kubeconfig");
    std::fs::write(&file, text).expect("written");
    file
}

const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: 'https://kube.example:6443'}}]
users: [{name: u, user: {token: file-token}}]
";

/// What is found: the address, the source, whether there is a token and whether there are authorities.
fn found(access: &ClusterAccess) -> (String, String, bool, bool) {
    let found = access.find().expect("a cluster");
    let has_token = found.config.auth_info.token.is_some();
    let place = found.place;
    (place.address.clone(), place.source.clone(), has_token, found.config.root_cert.is_some())
}

fn error(access: &ClusterAccess) -> String {
    access.find().err().expect("an error").to_string()
}

#[test]
fn a_pod_finds_its_own_cluster() {
    for (host, port, address) in [
        ("10.96.0.1", "443", "https://10.96.0.1:443/"),
        ("fd00:10:96::1", "6443", "https://[fd00:10:96::1]:6443/"),
        ("[fd00:10:96::1]", "6443", "https://[fd00:10:96::1]:6443/"),
        ("kube.example", "443", "https://kube.example:443/"),
    ] {
        let (_directory, pod) = pod(host, port);
        let expected = (address.to_owned(), "the pod's service account".to_owned(), true, true);
        assert_eq!(found(&access(None, None, &pod)), expected);
    }
}

#[test]
fn a_url_alone_gets_the_pods_token_and_authorities_only_in_a_pod_and_only_over_tls() {
    let (_directory, pod) = pod("10.96.0.1", "443");
    let nowhere = PodEnvironment { directory: "/nonexistent".into(), ..PodEnvironment::default() };
    for (url, pod, has_credentials) in [
        ("https://10.0.0.1:6443", &pod, true),
        ("10.0.0.1:6443", &pod, true),
        ("http://10.0.0.1:8080", &pod, false),
        ("https://10.0.0.1:6443", &nowhere, false),
    ] {
        let (address, _, token, authorities) = found(&access(Some(url), None, pod));
        assert!(address.contains("//10.0.0.1:"), "{address}");
        assert_eq!((token, authorities), (has_credentials, has_credentials), "{url}");
    }
}

#[test]
fn a_kubeconfig_comes_before_the_pod_and_a_url_before_its_server() {
    let (directory, pod) = pod("10.96.0.1", "443");
    let file = write(&directory, KUBECONFIG);
    let source = file.display().to_string();
    assert_eq!(
        found(&access(None, Some(&file), &pod)),
        ("https://kube.example:6443/".to_owned(), source, true, false)
    );
    let (address, source, token, _) = found(&access(Some("https://other:1/k8s/x"), Some(&file), &pod));
    assert_eq!(address, "https://other:1/k8s/x");
    assert!(source.contains("--kube-api-url") && token, "{source}");
}

#[test]
fn a_kubeconfig_without_clusters_leaves_it_to_the_pod() {
    let (directory, pod) = pod("10.96.0.1", "443");
    let file = write(&directory, "apiVersion: v1\nkind: Config\n");
    assert_eq!(found(&access(None, Some(&file), &pod)).0, "https://10.96.0.1:443/");
    let elsewhere = PodEnvironment::default();
    assert!(error(&access(None, Some(&file), &elsewhere)).contains("it has no clusters"));
}

#[test]
fn empty_options_are_none() {
    let (_directory, pod) = pod("10.96.0.1", "443");
    assert_eq!(found(&access(Some(""), Some(Path::new("")), &pod)).0, "https://10.96.0.1:443/");
}

#[test]
fn a_pod_without_authorities_trusts_the_systems() {
    let (directory, pod) = pod("10.96.0.1", "443");
    std::fs::remove_file(directory.path().join("ca.crt")).expect("removed");
    assert!(!found(&access(None, None, &pod)).3);
    std::fs::write(directory.path().join("ca.crt"), "").expect("written");
    assert!(error(&access(None, None, &pod)).contains("ca.crt: it has no PEM block of a CERTIFICATE"));
}

#[test]
fn errors_say_what_is_wrong_where_and_no_secrets() {
    let (directory, pod) = pod("10.96.0.1", "443");
    let with = |text: &str| error(&access(None, Some(&write(&directory, text)), &pod));
    for (text, expected) in [
        ("clusters: [{name: k, cluster: {server: x}}]", "no current-context"),
        (&KUBECONFIG.replace("cluster: k,", "cluster: z,"), "no cluster \"z\""),
        (&KUBECONFIG.replace("current-context: c", "current-context: d"), "no context \"d\""),
        (
            &KUBECONFIG.replace("https://kube.example:6443", "ftp://u:s3cret@kube.example"),
            "server: \"ftp://(hidden)@",
        ),
        (
            &KUBECONFIG.replace("{token: file-token}", "{token: [s3cret]}"),
            "kubeconfig: it is no kubeconfig (line ",
        ),
        (
            &KUBECONFIG.replace("token: file-token", "tokenFile: /nonexistent/token"),
            "/nonexistent/token: the token cannot",
        ),
        (
            &KUBECONFIG.replace("6443'", "6443', certificate-authority: /nonexistent/ca"),
            "/nonexistent/ca: the certificate authority cannot be read",
        ),
        (
            &KUBECONFIG.replace("6443'", "6443', certificate-authority-data: 's3cret!'"),
            "data of the certificate authority are not base64",
        ),
    ] {
        let error = with(text);
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    let missing = error(&access(None, Some(Path::new("/nonexistent/kubeconfig")), &pod));
    assert!(missing.starts_with("/nonexistent/kubeconfig: it cannot be read"), "{missing}");
    let nowhere = error(&access(None, None, &PodEnvironment::default()));
    assert!(nowhere.contains("KUBERNETES_SERVICE_HOST is not set"), "{nowhere}");
    let port = PodEnvironment { port: Some("tcp".to_owned()), ..pod.clone() };
    assert!(error(&access(None, None, &port)).contains("KUBERNETES_SERVICE_PORT=\"tcp\""));
    let url = error(&access(Some("https://user:s3cret@host"), None, &pod));
    assert!(url.contains("--kube-api-url") && !url.contains("s3cret"), "{url}");
}
