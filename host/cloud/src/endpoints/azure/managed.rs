//! Managed identities: whoever is beside the machine or the process is asked, and knows who that is.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use flannel_privileges::with_privileges;
use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use zeroize::Zeroizing;

use super::super::address::address_of_variable;
use super::{Identity, given};
use crate::access_token::{Question, Reply, Token, is_passing};
use crate::http::{Http, Url};
use crate::options::Variables;
use crate::{Failure, Secret, percent};

const ENDPOINT: &str = "IDENTITY_ENDPOINT";
const HEADER: &str = "IDENTITY_HEADER";
const IMDS: &str = "IMDS_ENDPOINT";
/// Where the metadata service is, if not where it is everywhere: what Azure's own libraries look at.
const AUTHORITY: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
const ANYWHERE: &str = "http://169.254.169.254";
const PATH: &str = "/metadata/identity/oauth2/token";
/// Where Azure Arc's agent puts keys, and nobody else does. Bytes of the largest one.
const ARC_KEYS: &str = "/var/opt/azcmagent/tokens";
const ARC_KEY: u64 = 4096;

/// Who is asked.
#[derive(Debug)]
pub(super) enum Source {
    /// The metadata service of a virtual machine.
    Imds(Url),
    /// The agent of a machine that is elsewhere. The directory is that of its keys.
    Arc(Url, PathBuf),
    /// What is beside a process of App Service or Container Apps: it wants to see a secret.
    AppService(Url, Secret),
}

impl Source {
    /// By the variables of whoever runs this process.
    pub(super) fn of(variables: &Variables) -> Result<Self, Failure> {
        let url = |name: &str, text: &str| address_of_variable(name, text).map_err(Failure::Credentials);
        let endpoint = variables.get(ENDPOINT).map(|text| url(ENDPOINT, &text)).transpose()?;
        Ok(match (endpoint, variables.get(HEADER).map(Secret::new)) {
            (Some(url), Some(secret)) => Self::AppService(url, secret),
            (Some(url), None) if variables.get(IMDS).is_some() => Self::Arc(url, ARC_KEYS.into()),
            (Some(_), None) => {
                let text = format!("{ENDPOINT} is set, and neither {HEADER} nor {IMDS} (Azure Arc) is");
                return Err(Failure::Credentials(text));
            }
            (None, _) => {
                let authority = variables.get(AUTHORITY).unwrap_or_else(|| ANYWHERE.to_owned());
                let base = url(AUTHORITY, &authority)?;
                Self::Imds(Url { path: format!("{}{PATH}", base.path), ..base })
            }
        })
    }

    pub(super) async fn token(
        &self,
        http: &Http,
        resource: &str,
        identity: Option<&Identity>,
    ) -> Result<(Token, Vec<Secret>), Failure> {
        let question = self.question(resource, identity)?;
        let who = format!("{}: {}", self.name(), question.url.shown());
        let failed = |reason: String| Failure::Credentials(format!("{who}: {reason}"));
        let asked = Instant::now();
        // A metadata service that is just being updated does not know the path.
        let passing = match self {
            Self::Imds(_) => |status| is_passing(status) || status == 404 || status == 410,
            _ => is_passing,
        };
        let reply = question.ask_patiently(http, passing).await;
        let reply = reply.map_err(|error| failed(error.to_string()))?;
        match self {
            Self::Imds(_) => given(&who, &reply, asked, Vec::new()),
            Self::AppService(_, secret) => given(&who, &reply, asked, vec![secret.clone()]),
            Self::Arc(_, keys) => {
                let key = arc_key(&reply, keys).map_err(failed)?;
                let text = Zeroizing::new(format!("Basic {}", key.reveal()));
                let value = sensitive(&text).map_err(failed)?;
                let mut question = question;
                question.headers.push((AUTHORIZATION, value));
                let reply = question.ask_patiently(http, passing).await;
                let reply = reply.map_err(|error| failed(error.to_string()))?;
                given(&who, &reply, asked, vec![key])
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Imds(_) => "the managed identity of this machine",
            Self::Arc(..) => "the managed identity of Azure Arc",
            Self::AppService(..) => "the managed identity of App Service",
        }
    }

    fn question(&self, resource: &str, identity: Option<&Identity>) -> Result<Question, Failure> {
        let metadata = || (HeaderName::from_static("metadata"), HeaderValue::from_static("true"));
        let (url, version, header) = match self {
            Self::Imds(url) => (url, "2018-02-01", metadata()),
            Self::Arc(url, _) => (url, "2020-06-01", metadata()),
            Self::AppService(url, secret) => {
                let wrong = |reason| Failure::Credentials(format!("{HEADER}: {reason}"));
                let value = sensitive(secret.reveal()).map_err(wrong)?;
                (url, "2019-08-01", (HeaderName::from_static("x-identity-header"), value))
            }
        };
        let mut url = url.clone();
        if url.path.is_empty() {
            "/".clone_into(&mut url.path);
        }
        let mut url = url.with("api-version", version).with("resource", &percent(resource));
        if let Some(identity) = identity {
            let is_app_service = matches!(self, Self::AppService(..));
            let (name, value) = match identity {
                Identity::Client(id) => ("client_id", id),
                Identity::Object(id) => (if is_app_service { "principal_id" } else { "object_id" }, id),
                Identity::Resource(id) => (if is_app_service { "mi_res_id" } else { "msi_res_id" }, id),
            };
            url = url.with(name, &percent(value));
        }
        Ok(Question { method: Method::GET, url, headers: vec![header], body: Zeroizing::default() })
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text).map_err(|_| "it is no value of a header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The key that the agent wants to see: in a file that only root and its group can read, whose path it says in
/// `WWW-Authenticate: Basic realm=FILE`. Whoever else answers in the agent's place must not have another file sent.
/// <https://learn.microsoft.com/azure/azure-arc/servers/managed-identity-authentication>
fn arc_key(reply: &Reply, directory: &Path) -> Result<Secret, String> {
    let status = reply.status;
    let challenge = reply.headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
    let file = challenge.filter(|_| status == 401).and_then(|text| text.strip_prefix("Basic realm="));
    let file = Path::new(file.ok_or_else(|| format!("status {status}, and no file with a key"))?);
    let is_key = file.extension().is_some_and(|end| end == "key") && file.parent() == Some(directory);
    if !is_key {
        let right = directory.display();
        return Err(format!("{}: its keys are {right}/NAME.key, and no other file is sent", file.display()));
    }
    // The agent's own user has written it.
    let bytes = with_privileges(|| {
        File::open(file).and_then(|open| {
            let mut bytes = Vec::new();
            open.take(ARC_KEY + 1).read_to_end(&mut bytes).map(|_| bytes)
        })
    });
    let bytes = Zeroizing::new(bytes.map_err(|error| format!("{}: {error}", file.display()))?);
    if bytes.is_empty() || bytes.len() as u64 > ARC_KEY {
        return Err(format!("{}: a key has 1 to {ARC_KEY} bytes", file.display()));
    }
    let text = std::str::from_utf8(&bytes).ok().map(str::trim);
    let text = text.ok_or_else(|| format!("{}: it is not UTF-8", file.display()))?;
    Ok(Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests;
