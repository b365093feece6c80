//! Files of credentials.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rsa::KeyPair;
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::*;

/// A file of credentials, and Google with it.
fn with_file(content: &str) -> (tempfile::NamedTempFile, Google) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), content).expect("written");
    let path = file.path().display().to_string();
    let google = google(vec![("GOOGLE_APPLICATION_CREDENTIALS", path)], &[]);
    (file, google)
}

fn service_account(server: &Server) -> Value {
    json!({
        "type": "service_account",
        "client_email": "flannel@lab-project.iam.gserviceaccount.com",
        "private_key_id": "0123",
        "private_key": KEY,
        "token_uri": format!("http://{}/token", server.address),
    })
}

async fn token_endpoint() -> Server {
    Server::start(|_| (200, "", token("ya29.made-up", 3_599))).await
}

#[tokio::test]
async fn a_service_account_signs_for_the_token_endpoint_and_the_services_scope() {
    let server = token_endpoint().await;
    let (_file, google) = with_file(&service_account(&server).to_string());
    google.prepare(&http(), &get("projects/p")).await.expect("a token");
    let asked = server.asked();
    assert_eq!(asked[0].line, "POST /token HTTP/1.1");
    assert!(asked[0].head.contains("content-type: application/x-www-form-urlencoded"), "{}", asked[0].head);
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    let assertion = asked[0].body.strip_prefix(grant).expect("an assertion");
    let (text, signature) = assertion.rsplit_once('.').expect("a signature");
    let der = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).expect("a key");
    let pair = KeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("a key");
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64");
    public.verify(text.as_bytes(), &signature).expect("the key's signature");
    let parts = text.split('.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64"));
    let parts: Vec<Value> = parts.map(|part| serde_json::from_slice(&part).expect("JSON")).collect();
    assert_eq!(parts[0], json!({ "alg": "RS256", "typ": "JWT", "kid": "0123" }));
    assert_eq!(parts[1]["iss"], "flannel@lab-project.iam.gserviceaccount.com");
    assert_eq!(parts[1]["scope"], "https://www.googleapis.com/auth/compute");
    assert_eq!(parts[1]["aud"], format!("http://{}/token", server.address));
    let lifetime = parts[1]["exp"].as_u64().zip(parts[1]["iat"].as_u64()).map(|(end, begin)| end - begin);
    assert_eq!(lifetime, Some(3_600));
}

#[tokio::test]
async fn a_user_has_a_refresh_token() {
    let server = token_endpoint().await;
    let file = json!({
        "type": "authorized_user",
        "client_id": "made-up",
        "client_secret": "made-up secret",
        "refresh_token": "1//made-up",
        "token_uri": format!("http://{}/token", server.address),
    });
    let (_file, google) = with_file(&file.to_string());
    google.prepare(&http(), &get("projects/p")).await.expect("a token");
    let form = "grant_type=refresh_token&client_id=made-up&client_secret=made-up%20secret&refresh_token=1%2F%2Fmade-up";
    assert_eq!(server.asked()[0].body, form);
}

#[tokio::test]
async fn a_key_that_is_replaced_in_the_file_is_used_for_the_next_token() {
    let server = token_endpoint().await;
    let (file, google) = with_file(r#"{"type":"external_account"}"#);
    google.prepare(&http(), &get("projects/p")).await.expect_err("refused");
    std::fs::write(file.path(), service_account(&server).to_string()).expect("written");
    assert!(google.prepare(&http(), &get("projects/p")).await.is_ok());
}

#[tokio::test]
async fn a_file_that_is_wrong_is_named_with_what_is_wrong_and_nothing_of_its_secrets() {
    let server = token_endpoint().await;
    let without = |member: &str| {
        let mut file = service_account(&server);
        file.as_object_mut().expect("an object").remove(member);
        file.to_string()
    };
    let with = |member: &str, value: &str| {
        let mut file = service_account(&server);
        file[member] = value.into();
        file.to_string()
    };
    for (content, reason) in [
        (String::new(), "line 1: no JSON object of credentials"),
        (r#"{"private_key":"canary"#.to_owned(), "line 1: no JSON object of credentials"),
        (r#"{"private_key":["canary"]}"#.to_owned(), "line 1: no JSON object of credentials"),
        (without("type"), "type is missing"),
        (with("type", "external_account"), "credentials of the type \"external_account\" are not supported"),
        (without("client_email"), "client_email is missing"),
        (without("private_key_id"), "private_key_id is missing"),
        (without("private_key"), "private_key is missing"),
        (with("private_key", "canary"), "private_key is no private key in PEM"),
        (
            with("private_key", "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n"),
            "private_key is no RSA key of 2048 to 4096 bits",
        ),
        (with("token_uri", "canary"), "token_uri is no URL"),
        (r#"{"type":"authorized_user","client_id":"x"}"#.to_owned(), "client_secret is missing"),
    ] {
        let (file, google) = with_file(&content);
        let error = google.prepare(&http(), &get("projects/p")).await.expect_err("refused").to_string();
        assert!(error.contains(reason) && error.contains(&file.path().display().to_string()), "{error}");
        assert!(!error.contains("canary") && !error.contains("Y2Fu") && !error.contains('\n'), "{error}");
    }
    let nowhere = google(vec![("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json".to_owned())], &[]);
    let error = nowhere.prepare(&http(), &get("projects/p")).await.expect_err("refused").to_string();
    assert!(error.contains("GOOGLE_APPLICATION_CREDENTIALS=/nowhere/key.json: cannot be read"), "{error}");
}

#[tokio::test]
async fn a_refusal_of_the_token_endpoint_is_told_and_what_was_sent_is_not() {
    let server = Server::start(|question| {
        let assertion = question.body.rsplit('=').next().unwrap_or_default().to_owned();
        let body =
            json!({ "error": "invalid_grant", "error_description": format!("Invalid JWT {assertion}") });
        (400, "", body.to_string())
    })
    .await;
    let (_file, google) = with_file(&service_account(&server).to_string());
    let error = google.prepare(&http(), &get("projects/p")).await.expect_err("refused").to_string();
    let address = server.address;
    assert!(error.contains("service account flannel@lab-project.iam.gserviceaccount.com of /"), "{error}");
    let said = format!("http://{address}/token answers: invalid_grant: Invalid JWT (hidden)");
    assert!(error.ends_with(&said), "{error}");
}
