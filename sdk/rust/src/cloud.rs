//! Requests to the cloud that the node runs in, which the host signs and sends, and what the cloud says of this machine. All of it is
//! for [`crate::Policy::tick`].
//!
//! What a plugin may ask for it declares with [`crate::cloud_permissions!`], and the operator grants.

use std::net::IpAddr;

use serde_json::Value;

pub use crate::answer::{CallError, Error, Response};
use crate::{Config, Mac};

/// More than a node's row is ever wanted in; each may cost requests of its own, and a tick has 64.
const MOST_TABLES: usize = 32;

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
    /// As the contract has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Google => "google",
            Self::Alibaba => "alibaba",
            Self::Tencent => "tencent",
        }
    }
}

/// A method of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A call of a query or RPC API: AWS, Alibaba, Tencent.
    Action {
        /// Its name.
        name: String,
        /// Its own parameters, not encoded. Tencent's become a JSON object: `Routes.0.GatewayId`.
        parameters: Vec<(String, String)>,
    },
    /// A call of a REST API: Google.
    Rest {
        /// How.
        method: Method,
        /// Below service and version, without a slash in front.
        path: String,
        /// Not encoded.
        query: Vec<(String, String)>,
        /// JSON text.
        body: Option<String>,
    },
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// By whose rules.
    pub provider: Provider,
    /// The service: `ec2`, `compute`, `vpc`.
    pub service: String,
    /// The API's version: `2016-11-15`, `v1`, `2016-04-28`.
    pub version: String,
    /// The region; none: this machine's.
    pub region: Option<String>,
    /// What.
    pub operation: Operation,
    /// Whether it may be sent once more when it is not known whether it was carried out.
    pub idempotent: bool,
}

impl Request {
    /// A call of a query or RPC API.
    pub fn action(
        provider: Provider,
        service: &str,
        version: &str,
        name: &str,
        parameters: &[(&str, &str)],
    ) -> Self {
        let operation = Operation::Action { name: name.to_owned(), parameters: owned(parameters) };
        Self::new(provider, service, version, operation)
    }

    /// A call of a REST API.
    pub fn rest(
        provider: Provider,
        service: &str,
        version: &str,
        method: Method,
        path: impl Into<String>,
    ) -> Self {
        let operation = Operation::Rest { method, path: path.into(), query: Vec::new(), body: None };
        Self::new(provider, service, version, operation)
    }

    fn new(provider: Provider, service: &str, version: &str, operation: Operation) -> Self {
        let (service, version) = (service.to_owned(), version.to_owned());
        Self { provider, service, version, region: None, operation, idempotent: false }
    }

    /// It does no harm to send it once more: it only reads, or carries a token that makes the cloud notice.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// To another region than this machine's.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// More parameters: in a REST call's query, or of an action.
    #[must_use]
    pub fn query(mut self, more: &[(&str, &str)]) -> Self {
        match &mut self.operation {
            Operation::Action { parameters, .. } => parameters.extend(owned(more)),
            Operation::Rest { query, .. } => query.extend(owned(more)),
        }
        self
    }

    /// With a body, JSON text; actions have none.
    #[must_use]
    pub fn body(mut self, text: impl Into<String>) -> Self {
        if let Operation::Rest { body, .. } = &mut self.operation {
            *body = Some(text.into());
        }
        self
    }
}

fn owned(parameters: &[(&str, &str)]) -> Vec<(String, String)> {
    parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A network interface of this machine, as the cloud sees it. What it does not say is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkInterface {
    /// `eni-…`; empty for Google.
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
    /// `i-…`; a number for Google.
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

/// An operation that a plugin may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequiredOperation {
    /// Whose cloud.
    pub provider: Provider,
    /// The service: `ec2`.
    pub service: &'static str,
    /// An action's name, or method and path of a REST call with `*` for one segment: `GET projects/*/global/routes/*`; after `?` the
    /// parameters that it is used with: `ModifyNetworkInterfaceAttribute?SourceDestCheck.Value=false`.
    pub operation: &'static str,
    /// What the cloud calls the permissions for it: `ec2:CreateRoute`.
    pub permissions: &'static [&'static str],
}

/// The route tables that the option `RouteTableID` names: one, or a list of up to 32, each once, by identifiers that begin with `prefix`
/// (`rtb-`). Empty where there is no such option. The error is for an operator.
pub fn route_tables(config: &Config, prefix: &str) -> Result<Vec<String>, String> {
    let all = match config.get("RouteTableID") {
        None => return Ok(Vec::new()),
        Some(Value::Array(all)) if !all.is_empty() => all.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    let is_id = |text: &&str| {
        let name = text.strip_prefix(prefix).unwrap_or_default();
        (1..=60).contains(&name.len()) && name.chars().all(|letter| letter.is_ascii_alphanumeric())
    };
    let mut tables: Vec<String> = Vec::new();
    for value in all {
        let table = value.as_str().filter(is_id).ok_or_else(|| {
            format!(
                "RouteTableID: {value} is no route table; right would be \"{prefix}…\", or a list of them"
            )
        })?;
        if !tables.iter().any(|known| known == table) {
            tables.push(table.to_owned());
        }
    }
    if tables.len() > MOST_TABLES {
        return Err(format!("RouteTableID: these are {} route tables; at most {MOST_TABLES}", tables.len()));
    }
    Ok(tables)
}

/// Sends a request and waits for the response.
pub fn send(request: &Request) -> Result<Response, Error> {
    #[cfg(target_family = "wasm")]
    {
        wasm::send(request)
    }
    #[cfg(not(target_family = "wasm"))]
    {
        // Taken out meanwhile, so that it may use the host itself.
        let cloud = crate::testing::with(|host| host.cloud.take());
        let Some(mut cloud) = cloud else {
            return Err(Error::Unreachable("this test has no cloud".to_owned()));
        };
        let answer = (*cloud)(request);
        crate::testing::with(|host| host.cloud = Some(cloud));
        answer
    }
}

/// What the cloud's metadata service says of this machine.
pub fn describe_instance(provider: Provider) -> Result<Instance, Error> {
    #[cfg(target_family = "wasm")]
    {
        wasm::describe_instance(provider)
    }
    #[cfg(not(target_family = "wasm"))]
    {
        let _ = provider;
        crate::testing::with(|host| host.instance.clone())
    }
}

#[cfg(target_family = "wasm")]
mod wasm {
    use super::{Error, Instance, Method, NetworkInterface, Operation, Provider, Request, Response};
    use crate::bindings::flannel::backend::cloud as wit;
    use crate::convert;

    fn error(error: wit::Error) -> Error {
        match error {
            wit::Error::Invalid(text) => Error::Invalid(text),
            wit::Error::Denied(text) => Error::Denied(text),
            wit::Error::Credentials(text) => Error::Credentials(text),
            wit::Error::Unreachable(text) => Error::Unreachable(text),
        }
    }

    pub fn send(request: &Request) -> Result<Response, Error> {
        let operation = match request.operation.clone() {
            Operation::Action { name, parameters } => {
                wit::Operation::Action(wit::Action { name, parameters })
            }
            Operation::Rest { method, path, query, body } => {
                let method = match method {
                    Method::Get => wit::Method::Get,
                    Method::Post => wit::Method::Post,
                    Method::Put => wit::Method::Put,
                    Method::Patch => wit::Method::Patch,
                    Method::Delete => wit::Method::Delete,
                };
                wit::Operation::Rest(wit::Rest { method, path, query, body })
            }
        };
        let asked = wit::Request {
            provider: request.provider.name().to_owned(),
            service: request.service.clone(),
            version: request.version.clone(),
            region: request.region.clone(),
            operation,
            idempotent: request.idempotent,
        };
        let wit::Response { status, headers, body, attempts } = wit::send(&asked).map_err(error)?;
        Ok(Response { status, headers, body, attempts })
    }

    pub fn describe_instance(of: Provider) -> Result<Instance, Error> {
        let instance = wit::describe_instance(of.name()).map_err(error)?;
        let wit::Instance { id, name, region, zone, account, interfaces } = instance;
        let interfaces = interfaces
            .into_iter()
            .map(|interface| {
                let wit::NetworkInterface { id, mac, addresses, subnet, network } = interface;
                let addresses = addresses.into_iter().map(convert::address_from).collect();
                NetworkInterface { id, mac: mac.map(convert::mac_from), addresses, subnet, network }
            })
            .collect();
        Ok(Instance { id, name, region, zone, account, interfaces })
    }
}
