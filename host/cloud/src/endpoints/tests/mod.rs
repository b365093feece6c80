//! The operator's file, and what is wrong with it.

mod credentials;

use std::path::Path;

use super::Endpoints;

fn parse(text: &str) -> Result<Endpoints, String> {
    Endpoints::parse(text, Path::new("/etc/flannel"))
}

#[test]
fn a_file_has_endpoints_with_all_kinds_of_credentials() {
    let read = parse(
        r#"
[endpoint.hetzner]
url = "https://api.hetzner.cloud/v1/"
allow = ["GET /servers", "GET /networks/*", "POST /networks/*/actions/add_route"]
credentials = { bearer-file = "hetzner.token" }

[endpoint.router]
url = "http://169.254.0.1:8080"
allow = ["GET /rest/ip/route/*"]
credentials = { basic = { user = "flannel", password-file = "/run/router" } }

[endpoint.proxmox]
url = "https://pve.example.com:8006/api2/json"
allow = ["GET /nodes"]
credentials = { header = { name = "Authorization", value-file = "pve" } }

[endpoint.stack]
url = "https://network.example.com"
allow = ["GET /v2.0/routers/*"]
credentials = { oauth-client = { token-url = "https://login.example.com/token", client-id = "id", client-secret-file = "s", scope = "net" } }

[endpoint.openstack]
url = "https://network.example.com:9696"
allow = ["PUT /v2.0/routers/*/add_extraroutes"]
credentials = { keystone = { auth-url = "https://identity.example.com", username = "u", user-domain-name = "Default", password-file = "p", project-id = "4711" } }

[endpoint.azure]
url = "https://management.azure.com"
allow = ["GET /subscriptions/*"]
credentials = { azure-identity = { resource = "https://management.azure.com/", client-id = "c" } }

[endpoint.gateway]
url = "https://abc123.execute-api.eu-west-3.amazonaws.com/prod"
allow = ["GET /routes"]
credentials = { sigv4 = {} }

[endpoint.minio]
url = "https://s3.example.com"
allow = ["GET /routes/*"]
credentials = { sigv4 = { service = "s3", region = "us-east-1", credentials-file = "keys", profile = "minio" } }

[endpoint.local-agent]
url = "http://localhost:1"
allow = ["GET /"]

[endpoint.trusted]
url = "http://10.0.0.1"
allow = ["GET /"]
insecure = true
"#,
    )
    .expect("read");
    let names: Vec<&str> = read.names().collect();
    let all = [
        "azure",
        "gateway",
        "hetzner",
        "local-agent",
        "minio",
        "openstack",
        "proxmox",
        "router",
        "stack",
        "trusted",
    ];
    assert_eq!(names, all);
    for (name, part) in [
        ("gateway", r#"SigV4(SigV4 { service: "execute-api", region: Some("eu-west-3"), profile: None })"#),
        ("minio", r#"profile: Some(("/etc/flannel/keys", "minio"))"#),
        ("openstack", r#"path: "/v3/auth/tokens?nocatalog""#),
        ("azure", r#"identity: Some(Client("c"))"#),
    ] {
        let shown = format!("{:?}", read.0[name]);
        assert!(shown.contains(part), "{shown}");
    }
    let shown = format!("{:?}", read.0["hetzner"]);
    assert!(shown.contains("\"/etc/flannel/hetzner.token\""), "{shown}");
    assert_eq!(read.0["hetzner"].url.path, "/v1");
    assert_eq!(parse("").expect("read").names().count(), 0);
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line_and_with_what_would_be_right() {
    let with = |line: &str| format!("\n[endpoint.a]\nurl = \"https://a\"\nallow = [\"GET /\"]\n{line}\n");
    for (text, said) in [
        ("[endpoint", "line 1: "),
        ("[endpoints.a]", "line 1: unknown field `endpoints`, expected `endpoint`"),
        ("\n[endpoint.a]\nallow = []", "line 2: missing field `url`"),
        ("[endpoint.a]\nurl = \"https://a\"", "missing field `allow`"),
        (
            "[endpoint.A]\nurl = \"https://a\"\nallow = [\"GET /\"]",
            "line 1: endpoint.A: a name is 1 to 63 of",
        ),
        (
            "[endpoint.a]\nurl = \"https://a\"\nallow = []",
            "line 1: endpoint.a: allow = []: nothing could be asked; right would be",
        ),
        (
            "[endpoint.a]\nurl = \"https://a\"\nallow = [\n\"GET /\",\n\"get /\"]",
            "line 5: endpoint.a: allow: \"get /\": the method is none of GET",
        ),
        (
            "[endpoint.a]\nallow = [\"GET /\"]\nurl = \"a\"",
            "line 3: endpoint.a: url = \"a\": right would be https://HOST[:PORT][/PATH]",
        ),
        (
            "[endpoint.a]\nallow = [\"GET /\"]\nurl = \"http://a.example.com\"",
            "without TLS everybody on the way could read the credentials; right would be https://, or insecure = true",
        ),
        ("[endpoint.a]\nallow = [\"GET /\"]\nurl = \"http://10.0.0.1\"", "right would be https://"),
        ("[endpoint.a]\nallow = [\"GET /\"]\nurl = \"https://a/?x=1\"", "right would be https://HOST"),
        ("[endpoint.a]\nallow = [\"GET /\"]\nurl = \"https://a/#x\"", "right would be https://HOST"),
        (&with("alow = []"), "line 5: unknown field `alow`, expected one of `url`, `allow`, `credentials`,"),
        (
            &with("credentials = { token = \"x\" }"),
            "line 5: unknown field `token`, expected one of `bearer-file`,",
        ),
        (
            &with("credentials = {}"),
            "line 5: endpoint.a: credentials: it is empty; right would be one of bearer-file, basic,",
        ),
        (
            &with("credentials = { bearer-file = \"a\", basic = { user = \"u\", password-file = \"p\" } }"),
            "there are several; right would be one of",
        ),
        (
            &with("credentials = { basic = { user = \"u\", password = \"canary\" } }"),
            "unknown field `password`, expected `user` or `password-file`",
        ),
        (&with("credentials = { basic = { user = \"u:v\", password-file = \"p\" } }"), "has no colon in it"),
        (
            &with("credentials = { header = { name = \"a b\", value-file = \"v\" } }"),
            "is no name of a header",
        ),
        (
            &with("credentials = { header = { name = \"Host\", value-file = \"v\" } }"),
            "is not for credentials",
        ),
        (
            &with(
                "credentials = { oauth-client = { token-url = \"http://b\", client-id = \"i\", client-secret-file = \"s\" } }",
            ),
            "oauth-client: token-url = \"http://b\": without TLS",
        ),
        (
            &with("ca-file = \"/nowhere/ca.pem\""),
            "line 5: endpoint.a: ca-file = \"/nowhere/ca.pem\": cannot be read: ",
        ),
        (&with("ca-file = \"/etc/hostname\""), "it has no certificates in PEM"),
    ] {
        let error = parse(text).expect_err("refused");
        assert!(error.contains(said), "{text}: {error}");
        assert!(error.lines().count() == 1 && !error.contains("canary"), "{error}");
    }
}

#[test]
fn a_password_in_a_url_is_refused_and_not_shown() {
    let error =
        parse("[endpoint.a]\nurl = \"https://u:canary@a\"\nallow = [\"GET /\"]").expect_err("refused");
    assert!(!error.contains("canary") && error.contains("right would be https://HOST"), "{error}");
}
