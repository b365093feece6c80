use std::fmt::Write;

use super::*;

const ROLE: &str = "/latest/meta-data/iam/security-credentials/node";

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    file
}

fn path(file: &tempfile::NamedTempFile) -> String {
    file.path().display().to_string()
}

/// What the token service answers.
fn session(id: &str) -> String {
    let mut text = String::from("<AssumeRoleWithWebIdentityResponse><Result><Credentials>");
    for (name, value) in [
        ("AccessKeyId", id),
        ("SecretAccessKey", CANARY),
        ("SessionToken", CANARY),
        ("Expiration", "2999-01-01T00:00:00.000Z"),
    ] {
        write!(text, "<{name}>{value}</{name}>").expect("a string");
    }
    text + "</Credentials></Result></AssumeRoleWithWebIdentityResponse>"
}

#[tokio::test]
async fn each_place_comes_before_the_next() {
    let service = Service::start(true).await;
    let shared = file(&format!("[default]\naws_access_key_id=AKIAFILE\naws_secret_access_key={CANARY}\n"));
    let identity = file(CANARY);
    service.put("/agent", 200, &Service::keys("ASIAAGENT", 3600));
    service.put("/", 200, &session("ASIAWEB"));
    let (url, agent) = (service.url(), format!("{}/agent", service.url()));
    let (shared, identity) = (path(&shared), path(&identity));
    let mut variables = vec![("HOME", "/nowhere")];
    for (more, key) in [
        (vec![], "ASIA1"),
        (vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.as_str())], "ASIAAGENT"),
        (vec![("AWS_SHARED_CREDENTIALS_FILE", shared.as_str())], "AKIAFILE"),
        (
            vec![
                ("AWS_WEB_IDENTITY_TOKEN_FILE", identity.as_str()),
                ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/flannel"),
                ("AWS_ENDPOINT_URL_STS", url.as_str()),
            ],
            "ASIAWEB",
        ),
        (vec![("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", CANARY)], "AKIAENV"),
    ] {
        variables.extend(more);
        assert_eq!(signed_by(&on(&service, &variables)).await, Ok(key.to_owned()), "{variables:?}");
    }
}

#[tokio::test]
async fn a_session_is_kept_until_its_end_is_near() {
    let service = Service::start(true).await;
    let vendor = on(&service, &[]);
    for _ in 0..3 {
        assert_eq!(signed_by(&vendor).await, Ok("ASIA1".to_owned()));
    }
    assert_eq!(service.count(ROLE), 1);
    vendor.forget_credentials();
    service.put_role("ASIA2", 60);
    assert_eq!(signed_by(&vendor).await, Ok("ASIA2".to_owned()));
    service.put_role("ASIA3", 3600);
    assert_eq!(signed_by(&vendor).await, Ok("ASIA3".to_owned()), "less than five minutes were left");
}

#[tokio::test]
async fn keys_that_cannot_be_fetched_anew_are_used_up() {
    let service = Service::start(true).await;
    service.put_role("ASIA1", 60);
    let vendor = on(&service, &[]);
    assert_eq!(signed_by(&vendor).await, Ok("ASIA1".to_owned()));
    service.put(ROLE, 500, "");
    assert_eq!(signed_by(&vendor).await, Ok("ASIA1".to_owned()));
    vendor.forget_credentials();
    let error = signed_by(&vendor).await.expect_err("nothing is left");
    assert!(error.to_string().contains("answers 500"), "{error}");
}

#[tokio::test]
async fn a_session_token_is_sent_and_never_shown() {
    for name in ["AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"] {
        let keys = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", CANARY), (name, "canary-token")];
        let prepared = vendor(&keys).prepare(&http(), &request("ec2", Some("a-1"))).await.expect("prepared");
        let sent = prepared.headers.iter().find(|(name, _)| name == "x-amz-security-token").expect("sent");
        assert_eq!(sent.1.to_str().expect("text"), "canary-token");
        let shown = format!("{prepared:?}");
        assert!(!shown.contains("canary"), "{shown}");
        // Key, signature and token: none of them comes back.
        let has = |text: &str| prepared.secrets.iter().any(|secret| text.contains(secret.reveal()));
        let authorization =
            prepared.headers.iter().find(|(name, _)| name == "authorization").expect("signed");
        assert!(has(CANARY) && has("canary-token") && has(authorization.1.to_str().expect("text")));
    }
}

#[tokio::test]
async fn a_web_identity_is_exchanged_for_a_session_of_the_role() {
    let service = Service::start(true).await;
    service.put("/", 200, &session("ASIAWEB"));
    let identity = file(&format!("{CANARY}.token\n"));
    let (url, identity) = (service.url(), path(&identity));
    let variables = [
        ("AWS_REGION", "eu-central-1"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", identity.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/a b"),
        ("AWS_ROLE_SESSION_NAME", "node1"),
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
    ];
    let web = vendor(&variables);
    assert_eq!(signed_by(&web).await, Ok("ASIAWEB".to_owned()));
    let wanted = format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fa%20b\
         &RoleSessionName=node1&WebIdentityToken={CANARY}.token"
    );
    assert!(service.last().ends_with(&wanted), "{}", service.last());
    web.forget_credentials();
    let denied = format!(
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>{CANARY}</Message></Error></ErrorResponse>"
    );
    service.put("/", 403, &denied);
    let error = signed_by(&web).await.expect_err("denied").to_string();
    assert!(error.contains("403 AccessDenied for arn:aws:iam::1:role/a b"), "{error}");
    assert!(!error.contains(CANARY), "{error}");
}

#[tokio::test]
async fn where_there_are_none_all_places_are_named_and_nothing_secret() {
    let service = Service::start(true).await;
    service.put("/latest/meta-data/iam/security-credentials/", 404, "");
    let error = signed_by(&on(&service, &[("HOME", "/nowhere")])).await.expect_err("none").to_string();
    for place in ["AWS_ACCESS_KEY_ID", "/nowhere/.aws/credentials", "no role of this instance"] {
        assert!(error.contains(place), "{error}");
    }
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[tokio::test]
async fn half_a_pair_and_what_can_be_no_key_is_refused_with_its_place() {
    let odd = format!("{CANARY}\nX: y");
    let of = |pairs: &[(&'static str, &str)]| vendor(&[&[("AWS_REGION", "a-1")][..], pairs].concat());
    for (pairs, said) in [
        (vec![("AWS_ACCESS_KEY_ID", "A")], "AWS_SECRET_ACCESS_KEY is not"),
        (vec![("AWS_SECRET_ACCESS_KEY", CANARY)], "AWS_ACCESS_KEY_ID is not"),
        (vec![("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", odd.as_str())], "do not have"),
        (vec![("AWS_PROFILE", "p"), ("HOME", "/nowhere")], "/nowhere/.aws/credentials: "),
        (vec![("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere"), ("HOME", "/")], "AWS_ROLE_ARN is not"),
        (
            vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://192.0.2.1/keys"), ("HOME", "/nowhere")],
            "192.0.2.1 is not asked without TLS",
        ),
    ] {
        let error = signed_by(&of(&pairs)).await.expect_err("refused").to_string();
        assert!(error.contains(said) && !error.contains(CANARY), "{error}");
    }
}

#[tokio::test]
async fn keys_of_the_role_that_are_none_are_not_used() {
    let service = Service::start(true).await;
    for text in [
        "",
        "{}",
        "<html>",
        r#"{"Code":"Failed","AccessKeyId":"A","SecretAccessKey":"madeup-canary","Token":"t","Expiration":"2999-01-01T00:00:00Z"}"#,
    ] {
        service.put(ROLE, 200, text);
        let error = signed_by(&on(&service, &[("HOME", "/nowhere")])).await.expect_err("none").to_string();
        assert!(error.contains("no keys of the role node") && !error.contains(CANARY), "{error}");
    }
}
