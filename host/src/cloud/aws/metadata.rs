//! The instance's metadata service:
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>. Version 2, in which a token is fetched
//! first, comes first; version 1 is for machines that have no version 2.

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request};
use serde::Deserialize;

use super::endpoint::is_region;
use super::keys::{self, Keys};
use crate::cloud::options::Variables;
use crate::cloud::request::{Failure, Instance, NetworkInterface};
use crate::cloud::secret::Secret;
use crate::datapath::entry::Mac;
use crate::http::{Http, Url};

const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";
const V1_DISABLED: &str = "AWS_EC2_METADATA_V1_DISABLED";
/// The same for every instance.
const ADDRESS: &str = "169.254.169.254";
const ADDRESS_V6: &str = "fd00:ec2::254";
const LIFETIME: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
/// It is next door.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of the longest answer.
const LARGEST: usize = 64 << 10;
/// More network interfaces than any instance has.
const INTERFACES: usize = 64;

/// Where the metadata service is.
pub(super) struct Metadata {
    /// Or why it is not to be asked.
    base: Result<Url, String>,
    /// Whether version 1 will do where there is no version 2.
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
        let is =
            |name, wanted: &str| variables.get(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted));
        let at = |host: &str| Url { secure: false, host: host.to_owned(), port: 80, path: "/".to_owned() };
        let base = if is(DISABLED, "true") {
            Err(format!("{DISABLED} says not to ask the metadata service"))
        } else if let Some(text) = variables.get(ENDPOINT) {
            Url::parse(&text).ok_or_else(|| format!("{ENDPOINT}: {text:?} is no URL"))
        } else if is("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ipv6") {
            Ok(at(ADDRESS_V6))
        } else {
            Ok(at(ADDRESS))
        };
        Self { base, plain: !is(V1_DISABLED, "true") }
    }

    /// Begins to ask.
    pub async fn session<'a>(&'a self, http: &'a Http) -> Result<Session<'a>, Failure> {
        let base = self.base.as_ref().map_err(|reason| Failure::Unreachable(reason.clone()))?;
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::PUT;
        request.headers_mut().insert(LIFETIME, HeaderValue::from_static("60"));
        let answer =
            http.send(&below(base, "latest/api/token"), request, PATIENCE).await.map_err(unreachable)?;
        let token = match answer.response.status().as_u16() {
            200 => {
                let body = answer.body("token", LARGEST).await.map_err(unreachable)?;
                let text = String::from_utf8_lossy(&body).trim().to_owned();
                let none = || Failure::Unreachable("the metadata service: its token is none".to_owned());
                Some(Some(text).filter(|text| !text.is_empty()).map(Secret::new).ok_or_else(none)?)
            }
            404 | 405 if self.plain => None,
            404 | 405 => {
                let text = format!(
                    "the metadata service has version 1 only, and {V1_DISABLED} says not to ask that"
                );
                return Err(Failure::Unreachable(text));
            }
            403 => {
                let text = "the metadata service answers 403: access to it is disabled for this instance";
                return Err(Failure::Unreachable(text.to_owned()));
            }
            status => {
                return Err(Failure::Unreachable(format!(
                    "the metadata service answers {status} to PUT token"
                )));
            }
        };
        Ok(Session { http, base, token })
    }
}

#[allow(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn unreachable(error: crate::http::HttpError) -> Failure {
    Failure::Unreachable(format!("the metadata service: {error}"))
}

/// A place below the service's address, which may itself have a path.
fn below(base: &Url, path: &str) -> Url {
    Url { path: format!("{}/{path}", base.path.trim_end_matches('/')), ..base.clone() }
}

/// What identifiers, zones and roles are of.
fn is_name(text: &str) -> bool {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-_.+=,@".contains(letter);
    (1..=128).contains(&text.len()) && text.chars().all(is_part)
}

impl Session<'_> {
    /// What it says below `latest/`; none: it does not know.
    async fn text(&self, path: &str) -> Result<Option<Secret>, Failure> {
        let mut request = Request::new(Full::new(Bytes::new()));
        if let Some(token) = &self.token {
            let none = |_| Failure::Unreachable("the metadata service: its token is none".to_owned());
            let mut value = HeaderValue::from_str(token.reveal()).map_err(none)?;
            value.set_sensitive(true);
            request.headers_mut().insert(TOKEN, value);
        }
        let url = below(self.base, &format!("latest/{path}"));
        let answer = self.http.send(&url, request, PATIENCE).await.map_err(unreachable)?;
        match answer.response.status().as_u16() {
            200 => {
                let body = answer.body("answer", LARGEST).await.map_err(unreachable)?;
                let text = String::from_utf8(body).map_err(|_| {
                    Failure::Unreachable(format!("the metadata service: {} is no text", url.shown()))
                })?;
                Ok(Some(Secret::new(text)))
            }
            404 => Ok(None),
            status => {
                Err(Failure::Unreachable(format!("the metadata service: {} answers {status}", url.shown())))
            }
        }
    }

    /// An identifier; empty: there is none.
    async fn name(&self, path: &str) -> Result<String, Failure> {
        let text = self.text(&format!("meta-data/{path}")).await?;
        let text = text.as_ref().map_or("", |text| text.reveal().trim());
        if text.is_empty() || is_name(text) {
            return Ok(text.to_owned());
        }
        Err(Failure::Unreachable(format!("the metadata service: {path} is not what it should be")))
    }

    /// An identifier that has to be there.
    async fn required(&self, path: &str) -> Result<String, Failure> {
        let name = self.name(path).await?;
        let missing = || Failure::Unreachable(format!("the metadata service: {path} is missing"));
        if name.is_empty() { Err(missing()) } else { Ok(name) }
    }

    async fn lines(&self, path: &str) -> Result<Vec<String>, Failure> {
        let text = self.text(&format!("meta-data/{path}")).await?;
        let lines = text.iter().flat_map(|text| text.reveal().lines());
        Ok(lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
    }

    /// This machine's region.
    pub async fn region(&self) -> Result<String, Failure> {
        let region = self.required("placement/region").await?;
        if is_region(&region) {
            return Ok(region);
        }
        Err(Failure::Unreachable(
            "the metadata service: placement/region is not what it should be".to_owned(),
        ))
    }

    /// All that it says of this machine.
    pub async fn instance(&self) -> Result<Instance, Failure> {
        Ok(Instance {
            id: self.required("instance-id").await?,
            name: String::new(),
            region: self.region().await?,
            zone: self.name("placement/availability-zone").await?,
            account: self.account().await?,
            interfaces: self.interfaces().await?,
        })
    }

    async fn account(&self) -> Result<String, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Document {
            account_id: String,
        }
        let text = self.text("dynamic/instance-identity/document").await?;
        let read = text.and_then(|text| serde_json::from_str::<Document>(text.reveal()).ok());
        Ok(read.map(|document| document.account_id).filter(|id| is_name(id)).unwrap_or_default())
    }

    async fn interfaces(&self) -> Result<Vec<NetworkInterface>, Failure> {
        let primary: Option<Mac> = self.name_of_mac().await?;
        let listed = self.lines("network/interfaces/macs/").await?;
        let macs = listed.iter().filter_map(|line| line.trim_end_matches('/').parse::<Mac>().ok());
        let mut macs: Vec<Mac> = macs.take(INTERFACES).collect();
        macs.sort_by_key(|mac| Some(*mac) != primary);
        let mut interfaces = Vec::new();
        for mac in macs {
            let below = |name: &str| format!("network/interfaces/macs/{mac}/{name}");
            let mut addresses: Vec<IpAddr> = Vec::new();
            for family in ["local-ipv4s", "ipv6s"] {
                let lines = self.lines(&below(family)).await?;
                addresses.extend(lines.iter().filter_map(|line| line.parse::<IpAddr>().ok()));
            }
            interfaces.push(NetworkInterface {
                id: self.name(&below("interface-id")).await?,
                mac: Some(mac),
                addresses,
                subnet: self.name(&below("subnet-id")).await?,
                network: self.name(&below("vpc-id")).await?,
            });
        }
        Ok(interfaces)
    }

    async fn name_of_mac(&self) -> Result<Option<Mac>, Failure> {
        Ok(self.lines("mac").await?.first().and_then(|text| text.parse().ok()))
    }

    /// The keys of the instance's role. The error says what there is none of.
    pub async fn keys(&self) -> Result<Result<Keys, String>, Failure> {
        let listed = self.lines("iam/security-credentials/").await?;
        let Some(role) = listed.first() else {
            return Ok(Err("the metadata service knows no role of this instance".to_owned()));
        };
        if !is_name(role) {
            return Ok(Err("the role's name has characters that it may not have".to_owned()));
        }
        let text = self.text(&format!("meta-data/iam/security-credentials/{role}")).await?;
        let given = text.as_ref().and_then(keys::of_json);
        Ok(given.ok_or_else(|| format!("the metadata service has no keys of the role {role}")))
    }
}
