//! Access tokens (RFC 6749, section 5.1): how they are read out of answers, and how long they are used.

use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::Secret;
use crate::http::{Http, HttpError, Url};
use crate::percent;
use crate::redact::redact;

/// How long a token endpoint may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
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

/// Asks a token endpoint, once. Answers with status and body.
pub(crate) async fn ask(
    http: &Http,
    url: &Url,
    client: Option<HeaderValue>,
    form: &[(&str, Secret)],
) -> Result<(u16, Zeroizing<Vec<u8>>), HttpError> {
    let pairs = form.iter().map(|(name, value)| format!("{name}={}", percent(value.reveal())));
    let body = Secret::new(pairs.collect::<Vec<_>>().join("&"));
    let mut request = hyper::Request::new(Full::new(Bytes::copy_from_slice(body.reveal().as_bytes())));
    *request.method_mut() = hyper::Method::POST;
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, form);
    request.headers_mut().extend(client.map(|client| (AUTHORIZATION, client)));
    let answer = http.send(url, request, READ_TIMEOUT).await?;
    let status = answer.response.status().as_u16();
    Ok((status, answer.body("token", MAX_ANSWER_BYTES).await?.into()))
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
        let text = Secret::new(access_token);
        let (shortest, longest) = LIFETIMES;
        let is_text = text.reveal().bytes().all(|byte| byte.is_ascii_graphic()) && !text.reveal().is_empty();
        if !is_text || text.reveal().len() > MAX_TOKEN_BYTES || !token_type.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let lifetime = Duration::from_secs(expires_in.unwrap_or(UNSAID).clamp(shortest, longest));
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
