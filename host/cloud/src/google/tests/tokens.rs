//! Access tokens, and how long they are kept.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A metadata service whose tokens are numbered, good for so many seconds, and of which only the first few come.
async fn numbered(seconds: u64, few: usize) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        number if number < few => (200, FLAVOR, token(&format!("ya29.number-{number}"), seconds)),
        _ => (500, FLAVOR, String::new()),
    })
    .await
}

async fn authorization(google: &Google) -> Result<String, String> {
    let prepared = google.prepare(&http(), &get("projects/p")).await.map_err(|error| error.to_string())?;
    let (_, value) = prepared.headers.iter().find(|(name, _)| name == AUTHORIZATION).expect("a header");
    assert!(value.is_sensitive());
    let text = value.to_str().expect("text").to_owned();
    assert_eq!(prepared.secrets[0].reveal(), text.trim_start_matches("Bearer "));
    Ok(text)
}

#[tokio::test]
async fn a_token_is_kept_until_it_is_forgotten() {
    let server = numbered(3_599, 9).await;
    let google = at_metadata(&server);
    for _ in 0..3 {
        assert_eq!(authorization(&google).await.as_deref(), Ok("Bearer ya29.number-0"));
    }
    google.forget_credentials();
    assert_eq!(authorization(&google).await.as_deref(), Ok("Bearer ya29.number-1"));
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_token_is_replaced_before_it_ends_and_used_to_its_end_if_there_is_no_other() {
    let server = numbered(2, 2).await;
    let google = at_metadata(&server);
    assert_eq!(authorization(&google).await.as_deref(), Ok("Bearer ya29.number-0"));
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert_eq!(authorization(&google).await.as_deref(), Ok("Bearer ya29.number-1"));
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    // The service fails from now on. How long it is asked does not matter: the old one may be over then.
    match authorization(&google).await {
        Ok(text) => assert_eq!(text, "Bearer ya29.number-1"),
        Err(error) => assert!(error.contains("the metadata service fails"), "{error}"),
    }
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let error = authorization(&google).await.expect_err("nothing is left");
    assert!(
        error.contains("GOOGLE_APPLICATION_CREDENTIALS is not set") && error.contains("status 500"),
        "{error}"
    );
}

#[tokio::test]
async fn a_machine_without_a_service_account_is_said_to_have_none() {
    let server = Server::start(|_| (404, FLAVOR, "not found".to_owned())).await;
    let error = authorization(&at_metadata(&server)).await.expect_err("refused");
    assert!(
        error.starts_with("no credentials: ") && error.contains("this machine has no service account"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_no_token_is_refused_without_being_shown() {
    for answer in [
        "secret-canary",
        r#"{"access_token":"secret-canary"}"#,
        r#"{"access_token":"secret-canary\n","expires_in":9,"token_type":"Bearer"}"#,
        r#"{"access_token":"secret-canary","expires_in":9,"token_type":"MAC"}"#,
        r#"{"access_token":"","expires_in":9,"token_type":"Bearer"}"#,
    ] {
        let server = Server::start(move |_| (200, FLAVOR, answer.to_owned())).await;
        let error = authorization(&at_metadata(&server)).await.expect_err("refused");
        assert!(error.contains("answers without a token") && !error.contains("canary"), "{error}");
    }
}
