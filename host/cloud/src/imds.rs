//! Instance metadata services: Amazon's, Alibaba's, and Tencent's, which speak the same with other words. The first two give a token
//! first: a request that somebody else has been talked into has none.

use std::time::Duration;

use flannel_model::entry::Mac;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request};
use zeroize::Zeroizing;

use super::is_label;
use super::request::Failure;
use crate::Secret;
use crate::http::{Http, HttpError, Url};

/// It is next door.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of the longest answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Seconds that a token is asked for: for the questions of one session.
const SECONDS: HeaderValue = HeaderValue::from_static("60");
/// More network interfaces than any instance has.
pub(super) const INTERFACES: usize = 64;

/// What differs.
pub(super) struct Dialect {
    /// The header that says how long a token is to be good for.
    pub lifetime: HeaderName,
    /// The header that a token is sent in.
    pub token: HeaderName,
    /// The variable that says not to do without a token.
    pub strict: &'static str,
    /// By these statuses a service says that it knows of no tokens; empty: by whatever it does but give one.
    pub tokenless: &'static [u16],
}

/// Where the metadata service is.
pub(super) struct Imds {
    /// None: it gives no tokens, and is not asked for one.
    dialect: Option<Dialect>,
    /// Or why it is not to be asked.
    base: Result<Url, String>,
    /// Whether it may be asked without a token, where it knows of none.
    plain: bool,
}

/// Some questions, one after another.
pub(super) struct Session<'a> {
    http: &'a Http,
    base: &'a Url,
    token: Option<(HeaderName, HeaderValue)>,
}

fn odd(what: &str) -> Failure {
    Failure::Unreachable(format!("the metadata service: {what}"))
}

#[allow(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn unreachable(error: HttpError) -> Failure {
    odd(&error.to_string())
}

/// A place below the service's address, which may itself have a path.
fn below(base: &Url, path: &str) -> Url {
    Url { path: format!("{}/latest/{path}", base.path.trim_end_matches('/')), ..base.clone() }
}

/// What identifiers, zones and roles are of.
pub(super) fn is_name(text: &str) -> bool {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-_.+=,@".contains(letter);
    (1..=128).contains(&text.len()) && text.chars().all(is_part)
}

impl Imds {
    pub(crate) fn new(dialect: Dialect, base: Result<Url, String>, plain: bool) -> Self {
        Self { dialect: Some(dialect), base, plain }
    }

    /// A service that knows of no tokens.
    pub(crate) fn without_tokens(base: Result<Url, String>) -> Self {
        Self { dialect: None, base, plain: true }
    }

    /// Begins to ask.
    pub(crate) async fn session<'a>(&'a self, http: &'a Http) -> Result<Session<'a>, Failure> {
        let base = self.base.as_ref().map_err(|reason| Failure::Unreachable(reason.clone()))?;
        let Some(dialect) = &self.dialect else { return Ok(Session { http, base, token: None }) };
        let token = dialect.token(http, base).await?;
        if token.is_none() && !self.plain {
            let strict = dialect.strict;
            return Err(odd(&format!("it gives no token, and {strict} says not to do without")));
        }
        Ok(Session { http, base, token })
    }
}

impl Dialect {
    /// A token; none: the service knows of none.
    async fn token(&self, http: &Http, base: &Url) -> Result<Option<(HeaderName, HeaderValue)>, Failure> {
        let Self { lifetime, token, tokenless, .. } = self;
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::PUT;
        request.headers_mut().insert(lifetime, SECONDS);
        let answer = match http.send(&below(base, "api/token"), request, READ_TIMEOUT).await {
            Ok(answer) => answer,
            Err(HttpError::Interrupted { .. }) if tokenless.is_empty() => return Ok(None),
            Err(error) => return Err(unreachable(error)),
        };
        match answer.response.status().as_u16() {
            200 => {
                let body = Zeroizing::new(answer.body("token", MAX_ANSWER_BYTES).await.map_err(unreachable)?);
                let value = HeaderValue::from_bytes(body.trim_ascii()).ok().filter(|value| !value.is_empty());
                let mut value = value.ok_or_else(|| odd("its token is none"))?;
                value.set_sensitive(true);
                Ok(Some((token.clone(), value)))
            }
            status if tokenless.is_empty() || tokenless.contains(&status) => Ok(None),
            403 => Err(odd("it answers 403: access to it is disabled for this instance")),
            status => Err(odd(&format!("it answers {status} when asked for a token"))),
        }
    }
}

impl Session<'_> {
    /// What it says below `latest/`; none: it does not know.
    pub(crate) async fn text(&self, path: &str) -> Result<Option<Secret>, Failure> {
        let mut request = Request::new(Full::new(Bytes::new()));
        request.headers_mut().extend(self.token.clone());
        let url = below(self.base, path);
        let answer = self.http.send(&url, request, READ_TIMEOUT).await.map_err(unreachable)?;
        match answer.response.status().as_u16() {
            200 => {
                let body = answer.body("answer", MAX_ANSWER_BYTES).await.map_err(unreachable)?;
                let text =
                    String::from_utf8(body).map_err(|_| odd(&format!("{} is no text", url.shown())))?;
                Ok(Some(Secret::new(text)))
            }
            404 => Ok(None),
            status => Err(odd(&format!("{} answers {status}", url.shown()))),
        }
    }

    /// The lines below `meta-data/`, without blanks around them; none where it does not know.
    pub(crate) async fn lines(&self, path: &str) -> Result<Vec<String>, Failure> {
        let text = self.text(&format!("meta-data/{path}")).await?;
        let lines = text.iter().flat_map(|text| text.reveal().lines());
        Ok(lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
    }

    /// An identifier below `meta-data/`; empty: there is none.
    pub(crate) async fn name(&self, path: &str) -> Result<String, Failure> {
        let text = self.text(&format!("meta-data/{path}")).await?;
        let text = text.as_ref().map_or("", |text| text.reveal().trim());
        if text.is_empty() || is_name(text) { Ok(text.to_owned()) } else { Err(wrong(path)) }
    }

    /// An identifier that has to be there.
    pub(crate) async fn required(&self, path: &str) -> Result<String, Failure> {
        let name = self.name(path).await?;
        if name.is_empty() { Err(odd(&format!("{path} is missing"))) } else { Ok(name) }
    }

    /// This machine's region.
    pub(crate) async fn region(&self, path: &str) -> Result<String, Failure> {
        let region = self.required(path).await?;
        if is_label(&region) { Ok(region) } else { Err(wrong(path)) }
    }

    /// The Ethernet address of the primary interface, if it says it.
    pub(crate) async fn mac(&self) -> Result<Option<Mac>, Failure> {
        Ok(self.lines("mac").await?.first().and_then(|text| text.parse().ok()))
    }

    /// The Ethernet addresses of all interfaces that it lists, the primary one first.
    pub(crate) async fn macs(&self) -> Result<Vec<Mac>, Failure> {
        let primary = self.mac().await?;
        let listed = self.lines("network/interfaces/macs/").await?;
        let macs = listed.iter().filter_map(|line| line.trim_end_matches('/').parse::<Mac>().ok());
        let mut macs: Vec<Mac> = macs.take(INTERFACES).collect();
        macs.sort_by_key(|mac| Some(*mac) != primary);
        Ok(macs)
    }
}

fn wrong(path: &str) -> Failure {
    odd(&format!("{path} is not what it should be"))
}
