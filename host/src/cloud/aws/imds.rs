//! The instance metadata service:
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html>. Version 2 wherever it is there: a token is fetched
//! first, which a request that somebody else has been talked into does not have.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request};
use serde::Deserialize;

use crate::cloud::is_label;
use crate::cloud::options::Variables;
use crate::cloud::request::{Failure, Instance, NetworkInterface};
use crate::cloud::secret::Secret;
use crate::datapath::entry::Mac;
use crate::http::{Http, HttpError, Url};

const USUAL: &str = "http://169.254.169.254/";
const OVERRIDE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";
const LIFETIME: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
/// It is next door.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a token is asked for, and used: the longest there is is six hours.
const TOKEN_SECONDS: &str = "21600";
const TOKEN_USED: Duration = Duration::from_hours(5);
/// Bytes of the longest answer.
const LARGEST: usize = 64 << 10;
/// More network interfaces than any instance has.
const INTERFACES: usize = 64;

/// The metadata service.
pub(super) struct Imds {
    /// Where it is; the error is why it is not to be asked.
    base: Result<Url, Failure>,
    token: Mutex<Option<(Instant, Secret)>>,
}

/// What it says in one document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    instance_id: String,
    region: String,
    #[serde(default)]
    availability_zone: String,
    #[serde(default)]
    account_id: String,
}

impl Imds {
    pub fn new(variables: &Variables) -> Self {
        let said = variables.get(OVERRIDE).unwrap_or_else(|| USUAL.to_owned());
        let base = if variables.get(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            Err(Failure::Unreachable(format!("{DISABLED} says not to ask the metadata service")))
        } else {
            Url::parse(&said).ok_or_else(|| Failure::Invalid(format!("{OVERRIDE}: {said:?} is no endpoint")))
        };
        Self { base, token: Mutex::default() }
    }

    fn kept(&self) -> Option<Secret> {
        let kept = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|(at, _)| at.elapsed() < TOKEN_USED).map(|(_, token)| token.clone())
    }

    fn keep(&self, token: Option<Secret>) {
        let kept = token.map(|token| (Instant::now(), token));
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }

    fn at(&self, path: &str) -> Result<Url, Failure> {
        let base = self.base.clone()?;
        Ok(Url { path: format!("{}/latest/{path}", base.path.trim_end_matches('/')), ..base })
    }

    /// A token; none: the service is of version 1.
    async fn token(&self, http: &Http) -> Result<Option<Secret>, Failure> {
        if let Some(token) = self.kept() {
            return Ok(Some(token));
        }
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::PUT;
        request.headers_mut().insert(LIFETIME, HeaderValue::from_static(TOKEN_SECONDS));
        let answer = match http.send(&self.at("api/token")?, request, PATIENCE).await {
            Ok(answer) => answer,
            // A token does not get further than one hop, unless the instance allows more; a container may be one too far.
            Err(HttpError::Away { .. }) => return Ok(None),
            Err(error) => return Err(unreachable(&error)),
        };
        match answer.response.status().as_u16() {
            200 => {
                let body = answer.body("token", LARGEST).await.map_err(|error| unreachable(&error))?;
                let token = Secret::new(String::from_utf8_lossy(&body).trim().to_owned());
                self.keep(Some(token.clone()));
                Ok(Some(token))
            }
            // Where version 2 is not there.
            403..=405 => Ok(None),
            status => Err(Failure::Unreachable(format!("the metadata service gives no token: {status}"))),
        }
    }

    /// What it says at a path; none: it does not know.
    pub async fn text(&self, http: &Http, path: &str) -> Result<Option<String>, Failure> {
        let url = self.at(path)?;
        for is_last in [false, true] {
            let mut request = Request::new(Full::new(Bytes::new()));
            if let Some(token) = self.token(http).await? {
                let broken = |_| Failure::Unreachable("the metadata service: its token is none".to_owned());
                let mut value = HeaderValue::from_str(token.reveal()).map_err(broken)?;
                value.set_sensitive(true);
                request.headers_mut().insert(TOKEN, value);
            }
            let answer = http.send(&url, request, PATIENCE).await.map_err(|error| unreachable(&error))?;
            match answer.response.status().as_u16() {
                200 => {
                    let body = answer.body("answer", LARGEST).await.map_err(|error| unreachable(&error))?;
                    return Ok(Some(String::from_utf8_lossy(&body).into_owned()));
                }
                404 => return Ok(None),
                // The token is of before a reboot.
                401 if !is_last => self.keep(None),
                status => {
                    let text = format!("the metadata service: {} answers {status}", url.shown());
                    return Err(Failure::Unreachable(text));
                }
            }
        }
        Err(Failure::Unreachable("the metadata service takes none of its tokens".to_owned()))
    }

    /// An identifier; empty: there is none.
    async fn name(&self, http: &Http, path: &str) -> Result<String, Failure> {
        let text = self.text(http, path).await?.unwrap_or_default().trim().to_owned();
        let proper = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
        if text.len() <= 128 && text.chars().all(proper) {
            return Ok(text);
        }
        Err(Failure::Unreachable(format!("the metadata service: {path} is not what it should be")))
    }

    async fn document(&self, http: &Http) -> Result<Document, Failure> {
        const PATH: &str = "dynamic/instance-identity/document";
        let text = self.text(http, PATH).await?;
        let text = text.ok_or_else(|| Failure::Unreachable(format!("the metadata service has no {PATH}")))?;
        let document: Document = serde_json::from_str(&text)
            .map_err(|error| Failure::Unreachable(format!("the metadata service: {PATH}: {error}")))?;
        if !is_label(&document.region) || document.instance_id.is_empty() {
            return Err(Failure::Unreachable(format!(
                "the metadata service: {PATH} is not what it should be"
            )));
        }
        Ok(document)
    }

    /// This machine's region.
    pub async fn region(&self, http: &Http) -> Result<String, Failure> {
        Ok(self.document(http).await?.region)
    }

    /// All that it says of this machine.
    pub async fn instance(&self, http: &Http) -> Result<Instance, Failure> {
        const MACS: &str = "meta-data/network/interfaces/macs/";
        let Document { instance_id, region, availability_zone, account_id } = self.document(http).await?;
        let macs = self.text(http, MACS).await?.unwrap_or_default();
        let mut interfaces = Vec::new();
        let macs = macs.lines().map(|line| line.trim().trim_end_matches('/'));
        for (text, mac) in macs.filter_map(|text| Some((text, text.parse::<Mac>().ok()?))).take(INTERFACES) {
            let below = |name: &str| format!("{MACS}{text}/{name}");
            let mut addresses = list(self.text(http, &below("local-ipv4s")).await?);
            addresses.extend(list(self.text(http, &below("ipv6s")).await?));
            let number = self.name(http, &below("device-number")).await?;
            let interface = NetworkInterface {
                id: self.name(http, &below("interface-id")).await?,
                mac: Some(mac),
                addresses,
                subnet: self.name(http, &below("subnet-id")).await?,
                network: self.name(http, &below("vpc-id")).await?,
            };
            interfaces.push((number.parse().unwrap_or(u32::MAX), interface));
        }
        interfaces.sort_by_key(|(number, _)| *number);
        Ok(Instance {
            id: instance_id,
            name: String::new(),
            region,
            zone: availability_zone,
            account: account_id,
            interfaces: interfaces.into_iter().map(|(_, interface)| interface).collect(),
        })
    }
}

fn unreachable(error: &HttpError) -> Failure {
    Failure::Unreachable(format!("the metadata service: {error}"))
}

/// Addresses, one a line.
fn list(text: Option<String>) -> Vec<IpAddr> {
    text.unwrap_or_default().lines().filter_map(|line| line.trim().parse().ok()).collect()
}
