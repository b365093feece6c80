//! What is asked and answered, in the same words for all clouds.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use flannel_model::entry::Mac;

use super::{names, nested};

/// By whose rules a request is addressed and signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// Amazon Web Services.
    Aws,
    /// Google Cloud.
    Google,
    /// Alibaba Cloud.
    Alibaba,
    /// Tencent Cloud.
    Tencent,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Aws, Self::Google, Self::Alibaba, Self::Tencent];

    /// As grants have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Google => "google",
            Self::Alibaba => "alibaba",
            Self::Tencent => "tencent",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Provider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|provider| provider.name() == text);
        found.ok_or_else(|| format!("{text:?} is none of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// A method of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// As it is sent.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

impl From<Method> for hyper::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Head => Self::HEAD,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
            Method::Delete => Self::DELETE,
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A call of a query or RPC API, or of one whose parameters are a JSON object (Tencent).
    Action {
        /// Its name.
        name: String,
        /// Its own parameters, not yet encoded, in any order.
        parameters: Vec<(String, String)>,
    },
    /// A call of a REST API.
    Rest {
        /// How.
        method: Method,
        /// Below service and version, without a slash in front; its segments need no encoding.
        path: String,
        /// Not yet encoded.
        query: Vec<(String, String)>,
        /// JSON text.
        body: Option<String>,
    },
}

impl fmt::Display for Operation {
    /// As grants have it: the action's name, or method and path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Action { name, .. } => f.write_str(name),
            Self::Rest { method, path, .. } => write!(f, "{} {path}", method.name()),
        }
    }
}

/// A request whose parts have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// By whose rules.
    pub provider: Provider,
    /// `ec2`: 1 to 63 of `a-z`, `0-9`, `-`.
    pub service: String,
    /// `2016-11-15`.
    pub version: String,
    /// 1 to 63 of `a-z`, `0-9`, `-`; none: this machine's.
    pub region: Option<String>,
    /// What.
    pub operation: Operation,
    /// It may be sent again when it is not known whether it was carried out.
    pub idempotent: bool,
}

impl Request {
    /// Whether it says one thing and nothing about what is the host's: names of parameters that are reserved, or that are there twice,
    /// members of the body that are there twice, a version that would lead to another path. The error says which.
    pub fn check(&self) -> Result<(), Failure> {
        if self.version.split('.').any(str::is_empty) {
            return Err(Failure::Invalid(format!(
                "the version {:?}: such as 2016-11-15 or v1",
                self.version
            )));
        }
        match &self.operation {
            Operation::Action { parameters, .. } => {
                names::check(self.provider, parameters)?;
                if self.provider == Provider::Tencent { nested::object(parameters).map(drop) } else { Ok(()) }
            }
            Operation::Rest { query, .. } => {
                names::check(self.provider, query)?;
                self.members().map(drop)
            }
        }
    }
}

/// An answer, of whatever status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// What came.
    pub body: String,
    /// How often the request was sent.
    pub attempts: u32,
}

/// Why there is no answer. Nothing secret is in the texts.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Failure {
    /// The request is not what its documentation asks for.
    #[error("{0}")]
    Invalid(String),
    /// Not granted, or not now.
    #[error("{0}")]
    Denied(String),
    /// There are no credentials. Says where they were looked for.
    #[error("no credentials: {0}")]
    Credentials(String),
    /// No whole answer. The request may have been carried out.
    #[error("{0}")]
    Unreachable(String),
}

/// A network interface of this machine, as the cloud sees it. What it does not say is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkInterface {
    /// `eni-…`
    pub id: String,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Its private addresses.
    pub addresses: Vec<IpAddr>,
    /// `subnet-…`, `vsw-…`
    pub subnet: String,
    /// `vpc-…`; Google's `projects/NUMBER/networks/NAME`.
    pub network: String,
}

/// This machine, as the cloud sees it. What it does not say is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// `i-…`, or Google's number.
    pub id: String,
    /// Google's name for it.
    pub name: String,
    /// `eu-central-1`
    pub region: String,
    /// `eu-central-1a`
    pub zone: String,
    /// The account's number, or Google's project.
    pub account: String,
    /// The primary one first.
    pub interfaces: Vec<NetworkInterface>,
}
