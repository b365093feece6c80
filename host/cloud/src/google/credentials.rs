//! Where access tokens come from, in Google's own order: the file that `GOOGLE_APPLICATION_CREDENTIALS` names, else the metadata
//! service. They are kept until shortly before their end.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use serde::Deserialize;
use tracing::{debug, warn};

use super::account::Account;
use super::metadata::Metadata;
use super::no_credentials;
use super::token::Token;
use crate::Secret;
use crate::http::{Http, Url};
use crate::options::Variables;
use crate::percent;
use crate::redact::redact;
use crate::request::Failure;

/// How long a token endpoint may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of its largest answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// So often a token endpoint is asked that fails by itself, and how long is waited after the first time.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);

/// Access tokens.
pub(super) struct Credentials {
    variables: Variables,
    kept: Mutex<Option<(&'static str, Token)>>,
}

/// A refusal of OAuth 2.0 (RFC 6749, section 5.2).
#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Credentials {
    pub(super) fn new(variables: Variables) -> Self {
        Self { variables, kept: Mutex::new(None) }
    }

    /// A token for a scope: the one that is kept, as long as it is fresh. One that is about to end goes on to be used where there
    /// is no other.
    pub(super) async fn token(&self, http: &Http, scope: &'static str) -> Result<Secret, Failure> {
        let kept = self.kept().clone().filter(|(its, _)| *its == scope).map(|(_, token)| token);
        if let Some(token) = kept.as_ref().filter(|token| token.is_fresh()) {
            return Ok(token.text.clone());
        }
        match (self.new_token(http, scope).await, kept.filter(Token::is_good)) {
            (Ok(token), _) => {
                debug!("got an access token");
                let text = token.text.clone();
                *self.kept() = Some((scope, token));
                Ok(text)
            }
            (Err(error), Some(old)) => {
                warn!(%error, "the access token cannot be refreshed; it is good for a little while yet");
                Ok(old.text)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// The next token is a new one.
    pub(super) fn forget(&self) {
        *self.kept() = None;
    }

    fn kept(&self) -> MutexGuard<'_, Option<(&'static str, Token)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn new_token(&self, http: &Http, scope: &str) -> Result<Token, Failure> {
        let Some(account) = Account::of(&self.variables)? else {
            return Metadata::new(&self.variables)?.token(http).await;
        };
        let (url, form, secrets) = account.grant(scope, SystemTime::now())?;
        let mut attempt = 1;
        loop {
            let asked = Instant::now();
            let outcome = ask(http, &url, &form).await;
            let failed = outcome.as_ref().map_or(true, |(status, _)| *status == 429 || *status >= 500);
            if failed && attempt < ATTEMPTS {
                tokio::time::sleep(PAUSE * attempt).await;
                attempt += 1;
                continue;
            }
            let (status, body) = outcome?;
            let token = if status == 200 { Token::read(&body, asked) } else { None };
            return token.ok_or_else(|| refused(&account, &url, status, &body, &secrets));
        }
    }
}

async fn ask(http: &Http, url: &Url, form: &[(&str, Secret)]) -> Result<(u16, Vec<u8>), Failure> {
    let pairs = form.iter().map(|(name, value)| format!("{name}={}", percent(value.reveal())));
    let body = Secret::new(pairs.collect::<Vec<_>>().join("&"));
    let mut request = hyper::Request::new(Full::new(Bytes::copy_from_slice(body.reveal().as_bytes())));
    *request.method_mut() = hyper::Method::POST;
    let form = hyper::header::HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, form);
    let answer = http.send(url, request, READ_TIMEOUT).await.map_err(|error| no_credentials(&error))?;
    let status = answer.response.status().as_u16();
    let body = answer.body("token", MAX_ANSWER_BYTES).await.map_err(|error| no_credentials(&error))?;
    Ok((status, body))
}

/// Says whose credentials are no good, and why.
fn refused(account: &Account, url: &Url, status: u16, body: &[u8], secrets: &[Secret]) -> Failure {
    let Refusal { error, error_description } = serde_json::from_slice(body).unwrap_or_default();
    let said = match (error.as_str(), error_description.as_str()) {
        ("", _) => format!("status {status}, and no token"),
        (error, "") => error.to_owned(),
        (error, description) => format!("{error}: {description}"),
    };
    let said: String =
        redact(&said, secrets).chars().filter(|letter| !letter.is_control()).take(300).collect();
    Failure::Credentials(format!("{account}: {} answers: {said}", url.shown()))
}
