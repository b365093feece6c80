//! Access tokens (RFC 6749, section 5.1): how they are read out of answers, and how long they are used.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use tracing::{debug, warn};
use zeroize::Zeroizing;

use crate::http::{Http, HttpError, Url};
use crate::percent;
use crate::redact::redact;
use crate::{Failure, Secret};

/// How long a token endpoint may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// So often one is asked that fails by itself, and how long is waited after the first time.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);
/// Bytes of its largest answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// A token is used until so much of its time is left. The metadata service has a new one from 5 minutes before on, as Google's own
/// libraries count on.
const SPARE: Duration = Duration::from_secs(225);
/// How long one is good for that does not say it.
const UNSAID: u64 = 300;
/// The shortest and the longest that a token is believed to be good for.
const LIFETIMES: (u64, u64) = (1, 86_400);
/// Characters of the longest token.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// An access token.
#[derive(Clone)]
pub(crate) struct Token {
    /// What goes into the header.
    pub(crate) text: Secret,
    /// From now on there may be another one.
    stale: Instant,
    /// From now on it is good for nothing.
    over: Instant,
}

/// As token endpoints and the metadata service write it.
#[derive(Deserialize)]
struct Written {
    access_token: String,
    expires_in: Option<u64>,
    token_type: String,
}

/// A refusal (RFC 6749, section 5.2).
#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

/// What a token endpoint is asked.
pub(crate) struct Question {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

/// What it answers.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Question {
    /// A form, which may have a client's credentials beside it.
    pub(crate) fn form(url: &Url, client: Option<HeaderValue>, form: &[(&str, Secret)]) -> Self {
        let pairs = form.iter().map(|(name, value)| format!("{name}={}", percent(value.reveal())));
        let body = Zeroizing::new(pairs.collect::<Vec<_>>().join("&").into_bytes());
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let mut headers = vec![(CONTENT_TYPE, kind)];
        headers.extend(client.map(|client| (AUTHORIZATION, client)));
        Self { method: Method::POST, url: url.clone(), headers, body }
    }

    /// Asks once.
    pub(crate) async fn ask(&self, http: &Http) -> Result<Reply, HttpError> {
        let mut request = hyper::Request::new(Full::new(Bytes::copy_from_slice(&self.body)));
        *request.method_mut() = self.method.clone();
        request.headers_mut().extend(self.headers.iter().cloned());
        let answer = http.send(&self.url, request, READ_TIMEOUT).await?;
        let (status, headers) = (answer.response.status().as_u16(), answer.response.headers().clone());
        let body = answer.body("token", MAX_ANSWER_BYTES).await?.into();
        Ok(Reply { status, headers, body })
    }

    /// Asks again where that may help: for a moment, three times at the most.
    pub(crate) async fn ask_patiently(
        &self,
        http: &Http,
        passing: fn(u16) -> bool,
    ) -> Result<Reply, HttpError> {
        let mut attempt = 1;
        loop {
            let outcome = self.ask(http).await;
            let failed = outcome.as_ref().map_or(true, |reply| passing(reply.status));
            if !failed || attempt >= ATTEMPTS {
                return outcome;
            }
            tokio::time::sleep(PAUSE * attempt).await;
            attempt += 1;
        }
    }
}

/// Whether the endpoint has failed by itself, or wants to be asked later.
pub(crate) fn is_passing(status: u16) -> bool {
    status == 429 || status >= 500
}

/// A token that is kept until shortly before its end.
#[derive(Default)]
pub(crate) struct Kept(Mutex<Option<Token>>);

impl Kept {
    /// The token that is kept, or else a new one, and what else must not come back. One that is about to end goes on to be used where there
    /// is no other. `whose`: for the log.
    pub(crate) async fn token(
        &self,
        whose: impl Display,
        new: impl Future<Output = Result<(Token, Vec<Secret>), Failure>>,
    ) -> Result<(Secret, Vec<Secret>), Failure> {
        let kept = self.lock().clone();
        if let Some(token) = kept.as_ref().filter(|token| token.is_fresh()) {
            return Ok((token.text.clone(), Vec::new()));
        }
        match (new.await, kept.filter(Token::is_good)) {
            (Ok((token, secrets)), _) => {
                debug!(%whose, "got an access token");
                let text = token.text.clone();
                *self.lock() = Some(token);
                Ok((text, secrets))
            }
            (Err(error), Some(old)) => {
                warn!(%whose, %error, "the access token cannot be refreshed; it is good for a little while yet");
                Ok((old.text, Vec::new()))
            }
            (Err(error), None) => Err(error),
        }
    }

    /// The next token is a new one.
    pub(crate) fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Token>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept(_)")
    }
}

/// Why there is no token, in a token endpoint's own words.
pub(crate) fn refusal(status: u16, body: &[u8], secrets: &[Secret]) -> String {
    let Refusal { error, error_description } = serde_json::from_slice(body).unwrap_or_default();
    let said = match (error.as_str(), error_description.as_str()) {
        ("", _) => format!("status {status}, and no token"),
        (error, "") => error.to_owned(),
        (error, description) => format!("{error}: {description}"),
    };
    redact(&said, secrets).chars().filter(|letter| !letter.is_control()).take(300).collect()
}

impl Token {
    /// Reads an answer to a request that was sent at some moment. None: it has no token.
    pub(crate) fn read(body: &[u8], asked: Instant) -> Option<Self> {
        let Written { access_token, expires_in, token_type } = serde_json::from_slice(body).ok()?;
        let token = Self::new(Secret::new(access_token), expires_in, asked)?;
        token_type.eq_ignore_ascii_case("bearer").then_some(token)
    }

    /// A token that was asked for at some moment, and is good for so many seconds from then on. None: no header could have it.
    pub(crate) fn new(text: Secret, lifetime: Option<u64>, asked: Instant) -> Option<Self> {
        let (shortest, longest) = LIFETIMES;
        let is_text = text.reveal().bytes().all(|byte| byte.is_ascii_graphic()) && !text.reveal().is_empty();
        if !is_text || text.reveal().len() > MAX_TOKEN_BYTES {
            return None;
        }
        let lifetime = Duration::from_secs(lifetime.unwrap_or(UNSAID).clamp(shortest, longest));
        // One that is short anyway is used for half of its time.
        let fresh = lifetime.saturating_sub(SPARE).max(lifetime / 2);
        Some(Self { text, stale: asked + fresh, over: asked + lifetime })
    }

    /// Whether it is far from its end.
    pub(crate) fn is_fresh(&self) -> bool {
        Instant::now() < self.stale
    }

    /// Whether it is good at all.
    pub(crate) fn is_good(&self) -> bool {
        Instant::now() < self.over
    }
}
