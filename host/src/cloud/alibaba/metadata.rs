//! The instance's metadata service: <https://help.aliyun.com/document_detail/49122.html>. Its hardened mode is used where it is
//! there: a token is fetched first, which a request that somebody else has been talked into does not have.

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request};
use zeroize::Zeroizing;

use crate::cloud::options::Variables;
use crate::cloud::request::{Failure, Instance, NetworkInterface};
use crate::cloud::secret::Secret;
use crate::datapath::entry::Mac;
use crate::http::{Http, HttpError, Url};

/// The same for every instance.
const ADDRESS: &str = "100.100.100.200";
const LIFETIME: HeaderName = HeaderName::from_static("x-aliyun-ecs-metadata-token-ttl-seconds");
const TOKEN: HeaderName = HeaderName::from_static("x-aliyun-ecs-metadata-token");
/// It is next door.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of the longest answer.
const LARGEST: usize = 64 << 10;
/// More network interfaces than any instance has.
const INTERFACES: usize = 64;

/// Where the metadata service is.
pub(super) struct Metadata {
    base: Url,
    /// Whether it may be asked without a token.
    plain: bool,
}

/// Some questions, one after another.
pub(super) struct Session<'a> {
    http: &'a Http,
    base: &'a Url,
    token: Option<Secret>,
}

impl Metadata {
    pub fn new(variables: &Variables) -> Self {
        let base = Url { secure: false, host: ADDRESS.to_owned(), port: 80, path: "/".to_owned() };
        let disabled = variables.get("ALIBABA_CLOUD_IMDSV1_DISABLED");
        Self { base, plain: !disabled.is_some_and(|value| value.eq_ignore_ascii_case("true")) }
    }

    #[cfg(test)]
    pub fn at(base: Url, plain: bool) -> Self {
        Self { base, plain }
    }

    /// Begins to ask.
    pub async fn session<'a>(&'a self, http: &'a Http) -> Result<Session<'a>, Failure> {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::PUT;
        request.headers_mut().insert(LIFETIME, HeaderValue::from_static("60"));
        let url = Url { path: "/latest/api/token".to_owned(), ..self.base.clone() };
        let token = match http.send(&url, request, PATIENCE).await {
            Ok(answer) if answer.response.status() == 200 => {
                let body = answer.body("token", LARGEST).await.map_err(unreachable)?;
                let text = String::from_utf8_lossy(&body).trim().to_owned();
                Some(text).filter(|text| !text.is_empty()).map(Secret::new)
            }
            // Older systems do not have it.
            Ok(_) | Err(HttpError::Away { .. }) => None,
            Err(error) => return Err(unreachable(error)),
        };
        if token.is_none() && !self.plain {
            let text = "the metadata service gives no token, and ALIBABA_CLOUD_IMDSV1_DISABLED says not to do without";
            return Err(Failure::Unreachable(text.to_owned()));
        }
        Ok(Session { http, base: &self.base, token })
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is what an error is mapped by")]
fn unreachable(error: HttpError) -> Failure {
    Failure::Unreachable(format!("the metadata service: {error}"))
}

/// What identifiers, regions and roles are of.
pub(super) fn is_name(text: &str) -> bool {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    (1..=128).contains(&text.len()) && text.chars().all(is_part)
}

impl Session<'_> {
    /// What it says below `meta-data/`; none: it does not know.
    pub async fn text(&self, path: &str) -> Result<Option<String>, Failure> {
        let mut request = Request::new(Full::new(Bytes::new()));
        if let Some(token) = &self.token {
            let value = HeaderValue::from_str(token.reveal());
            let mut value = value
                .map_err(|_| Failure::Unreachable("the metadata service: its token is none".to_owned()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(TOKEN, value);
        }
        let url = Url { path: format!("/latest/meta-data/{path}"), ..self.base.clone() };
        let answer = self.http.send(&url, request, PATIENCE).await.map_err(unreachable)?;
        match answer.response.status().as_u16() {
            200 => {
                // It may be an access key.
                let body = Zeroizing::new(answer.body("answer", LARGEST).await.map_err(unreachable)?);
                Ok(Some(String::from_utf8_lossy(&body).trim().to_owned()))
            }
            404 => Ok(None),
            status => {
                Err(Failure::Unreachable(format!("the metadata service: {} answers {status}", url.shown())))
            }
        }
    }

    /// An identifier; empty: there is none.
    async fn name(&self, path: &str) -> Result<String, Failure> {
        let text = self.text(path).await?.unwrap_or_default();
        if text.is_empty() || is_name(&text) {
            return Ok(text);
        }
        Err(Failure::Unreachable(format!("the metadata service: {path} is not what it should be")))
    }

    /// An identifier that has to be there.
    async fn required(&self, path: &str) -> Result<String, Failure> {
        let name = self.name(path).await?;
        let missing = || Failure::Unreachable(format!("the metadata service: {path} is missing"));
        if name.is_empty() { Err(missing()) } else { Ok(name) }
    }

    /// This machine's region.
    pub async fn region(&self) -> Result<String, Failure> {
        let region = self.required("region-id").await?;
        let is_part = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        if region.len() < 64 && region.chars().all(is_part) {
            return Ok(region);
        }
        Err(Failure::Unreachable("the metadata service: region-id is not what it should be".to_owned()))
    }

    /// All that it says of this machine.
    pub async fn instance(&self) -> Result<Instance, Failure> {
        Ok(Instance {
            id: self.required("instance-id").await?,
            name: String::new(),
            region: self.region().await?,
            zone: self.name("zone-id").await?,
            account: self.name("owner-account-id").await?,
            interfaces: self.interfaces().await?,
        })
    }

    async fn interfaces(&self) -> Result<Vec<NetworkInterface>, Failure> {
        let primary: Option<Mac> = self.text("mac").await?.and_then(|text| text.parse().ok());
        let listed = self.text("network/interfaces/macs/").await?.unwrap_or_default();
        let macs = listed.lines().filter_map(|line| line.trim().trim_end_matches('/').parse::<Mac>().ok());
        let mut macs: Vec<Mac> = macs.take(INTERFACES).collect();
        macs.sort_by_key(|mac| Some(*mac) != primary);
        if macs.is_empty() {
            return Ok(vec![self.only_interface(primary).await?]);
        }
        let mut interfaces = Vec::new();
        for mac in macs {
            let below = |name: &str| format!("network/interfaces/macs/{mac}/{name}");
            let mut addresses = list(self.text(&below("private-ipv4s")).await?);
            addresses.extend(list(self.text(&below("ipv6s")).await?));
            // The one that is the interface's own comes first.
            let own = list(self.text(&below("primary-ip-address")).await?);
            addresses.sort_by_key(|address| !own.contains(address));
            interfaces.push(NetworkInterface {
                id: self.name(&below("network-interface-id")).await?,
                mac: Some(mac),
                addresses,
                subnet: self.name(&below("vswitch-id")).await?,
                network: self.name(&below("vpc-id")).await?,
            });
        }
        Ok(interfaces)
    }

    /// Where interfaces are not listed, of the primary one there is as much as is said of the instance.
    async fn only_interface(&self, mac: Option<Mac>) -> Result<NetworkInterface, Failure> {
        Ok(NetworkInterface {
            id: String::new(),
            mac,
            addresses: list(self.text("private-ipv4").await?),
            subnet: self.name("vswitch-id").await?,
            network: self.name("vpc-id").await?,
        })
    }
}

/// Addresses, which come as `["192.0.2.1","192.0.2.2"]`, as `[2001:db8::1,2001:db8::2]` and with nothing around them.
fn list(text: Option<String>) -> Vec<IpAddr> {
    let text = text.unwrap_or_default();
    let parts = text.split(|letter: char| "[]\", \n".contains(letter));
    parts.filter_map(|part| part.parse().ok()).collect()
}
