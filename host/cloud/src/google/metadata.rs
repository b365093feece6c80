//! The metadata service of Compute Engine: what this machine is, and access tokens of its service account.
//!
//! Only single values are asked for: a question for everything would answer with whatever secrets somebody has put into the machine's
//! attributes.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use serde::Deserialize;

use crate::access_token::Token;
use crate::http::{Http, HttpError, Url};
use crate::options::Variables;
use crate::request::{Failure, Instance, NetworkInterface};

/// Where it is; by its address, so that nobody who answers for names can be in its place.
const ADDRESS: &str = "169.254.169.254";
/// What puts something else in its place, `HOST[:PORT]`: that of Google's own libraries.
const VARIABLE: &str = "GCE_METADATA_HOST";
/// Whoever asks has to say this, and so has whoever answers: it keeps out those who were led here, and those who only pretend.
const FLAVOR: (&str, &str) = ("metadata-flavor", "Google");
/// How long an answer may take.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the largest answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// It is away for moments, while machines are moved; so often it is asked, with this pause after the first time.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);

/// The service.
pub(super) struct Metadata(Url);

/// How it fails.
enum MetadataError {
    /// It has no such value.
    Missing,
    /// It is not there, or does not answer as it should.
    Away(String),
}

#[derive(Deserialize)]
struct Interface {
    #[serde(default)]
    mac: String,
    ip: Option<IpAddr>,
    #[serde(default)]
    ipv6s: Vec<IpAddr>,
    network: String,
}

impl Metadata {
    pub(super) fn new(variables: &Variables) -> Result<Self, Failure> {
        let host = variables.get(VARIABLE).unwrap_or_else(|| ADDRESS.to_owned());
        let url = Url::parse(&format!("http://{host}/computeMetadata/v1"))
            .filter(|url| url.path == "/computeMetadata/v1");
        url.map(Self).ok_or_else(|| Failure::Unreachable(format!("{VARIABLE}={host:?} is not HOST[:PORT]")))
    }

    /// What this machine is.
    pub(super) async fn instance(&self, http: &Http) -> Result<Instance, Failure> {
        let text = |path| self.text(http, path);
        let project = text("project/project-id").await?;
        let id = text("instance/id").await?;
        let name = text("instance/name").await?;
        let zone = text("instance/zone").await?;
        let interfaces = text("instance/network-interfaces/?recursive=true&alt=json").await?;
        // `projects/NUMBER/zones/ZONE`
        let zone = zone.rsplit('/').next().unwrap_or_default().to_owned();
        let region = zone.rsplit_once('-').map(|(region, _)| region.to_owned()).unwrap_or_default();
        for (what, value, is_right) in [
            ("project/project-id", &project, is_word(&project, ".:-")),
            ("instance/id", &id, !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())),
            ("instance/name", &name, is_word(&name, "-")),
            ("instance/zone", &zone, is_word(&zone, "-") && !region.is_empty()),
        ] {
            if !is_right {
                let value: String = value.chars().take(64).collect();
                return Err(self.odd(&format!("{what} is {value:?}")));
            }
        }
        let interfaces: Vec<Interface> = serde_json::from_str(&interfaces)
            .map_err(|_| self.odd("instance/network-interfaces is no list"))?;
        let interfaces = interfaces.into_iter().map(Interface::known).collect();
        Ok(Instance { id, name, region, zone, account: project, interfaces })
    }

    /// An access token of the machine's service account.
    pub(super) async fn token(&self, http: &Http) -> Result<Token, Failure> {
        let asked = Instant::now();
        let place = self.0.shown();
        let said = self.ask(http, "instance/service-accounts/default/token").await;
        let body = said.map_err(|trouble| {
            Failure::Credentials(match trouble {
                MetadataError::Missing => format!(
                    "GOOGLE_APPLICATION_CREDENTIALS is not set, and by {place} this machine has no service account"
                ),
                MetadataError::Away(reason) => {
                    format!("GOOGLE_APPLICATION_CREDENTIALS is not set, and the metadata service fails: {reason}")
                }
            })
        })?;
        let body = zeroize::Zeroizing::new(body);
        Token::read(&body, asked).ok_or_else(|| {
            Failure::Credentials(format!(
                "{place}/instance/service-accounts/default/token answers without a token"
            ))
        })
    }

    async fn text(&self, http: &Http, path: &str) -> Result<String, Failure> {
        let body = self.ask(http, path).await.map_err(|trouble| match trouble {
            MetadataError::Missing => self.odd(&format!("it does not know {path}")),
            MetadataError::Away(reason) => {
                Failure::Unreachable(format!("the metadata service fails: {reason}"))
            }
        })?;
        String::from_utf8(body).map_err(|_| self.odd(&format!("{path} is no text")))
    }

    async fn ask(&self, http: &Http, path: &str) -> Result<Vec<u8>, MetadataError> {
        let mut attempt = 1;
        loop {
            let outcome = self.ask_once(http, path).await;
            if !matches!(outcome, Err(MetadataError::Away(_))) || attempt >= ATTEMPTS {
                return outcome;
            }
            tokio::time::sleep(PAUSE * attempt).await;
            attempt += 1;
        }
    }

    async fn ask_once(&self, http: &Http, path: &str) -> Result<Vec<u8>, MetadataError> {
        let away = |error: HttpError| MetadataError::Away(error.to_string());
        let url = Url { path: format!("{}/{path}", self.0.path), ..self.0.clone() };
        let mut request = hyper::Request::new(Full::new(Bytes::new()));
        request.headers_mut().insert(FLAVOR.0, HeaderValue::from_static(FLAVOR.1));
        let answer = http.send(&url, request, METADATA_TIMEOUT).await.map_err(away)?;
        let status = answer.response.status().as_u16();
        let is_google = answer.response.headers().get(FLAVOR.0).is_some_and(|value| value == FLAVOR.1);
        let body = answer.body("metadata", MAX_ANSWER_BYTES).await.map_err(away)?;
        match status {
            200 if is_google => Ok(body),
            404 if is_google => Err(MetadataError::Missing),
            200 | 404 => {
                Err(MetadataError::Away(format!("{}: this is not Google's metadata service", url.shown())))
            }
            _ => Err(MetadataError::Away(format!("{}: status {status}", url.shown()))),
        }
    }

    fn odd(&self, what: &str) -> Failure {
        Failure::Unreachable(format!("the metadata service at {} is odd: {what}", self.0.authority()))
    }
}

impl Interface {
    fn known(self) -> NetworkInterface {
        let addresses = self.ip.into_iter().chain(self.ipv6s).collect();
        let (id, subnet) = Default::default();
        NetworkInterface { id, mac: self.mac.parse().ok(), addresses, subnet, network: self.network }
    }
}

/// Lower-case letters, digits, and these.
fn is_word(text: &str, more: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || more.contains(letter);
    !text.is_empty() && text.len() <= 128 && text.chars().all(fits)
}
