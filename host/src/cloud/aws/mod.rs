//! Amazon Web Services: query APIs with signature version 4, credentials of the environment, a web identity, the shared file or the
//! instance's role, and the instance's metadata.

mod credentials;
mod endpoint;
mod imds;
mod sign;
mod sts;
mod xml;

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::options::CloudOptions;
use super::request::{Answer, Failure, Instance, Operation, Provider, Request};
use super::vendor::{Prepared, Vendor, Verdict};
use crate::http::{Http, Url};
use credentials::Credentials;
use imds::Imds;

/// Codes of errors that mean: too many. The list of AWS's SDKs ("retry behavior" in their reference guide).
const THROTTLED: [&str; 10] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottledException",
    "RequestThrottled",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "BandwidthLimitExceeded",
    "SlowDown",
    "EC2ThrottledException",
];
/// Codes of errors that other credentials might not meet.
const CREDENTIALS: [&str; 6] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "AuthFailure",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
];

/// Amazon Web Services.
pub struct Aws {
    options: CloudOptions,
    imds: Imds,
    credentials: Credentials,
    /// This machine's, which never changes.
    region: OnceLock<String>,
}

impl Aws {
    /// With what the operator has said. Asks nobody.
    pub fn new(options: CloudOptions) -> Self {
        let imds = Imds::new(&options.variables);
        let credentials = Credentials::new(options.clone());
        Self { options, imds, credentials, region: OnceLock::new() }
    }

    async fn region(&self, http: &Http, request: &Request) -> Result<String, Failure> {
        let said = request.region.clone().or_else(|| self.region.get().cloned());
        if let Some(region) = said {
            return Ok(region);
        }
        let variables = ["AWS_REGION", "AWS_DEFAULT_REGION"];
        let of_variable = variables.iter().find_map(|name| Some((*name, self.options.variables.get(name)?)));
        let region = match of_variable {
            Some((name, region)) if !crate::cloud::is_label(&region) => {
                return Err(Failure::Invalid(format!(
                    "{name}: {region:?} is no region, such as eu-central-1"
                )));
            }
            Some((_, region)) => region,
            None => self.imds.region(http).await?,
        };
        Ok(self.region.get_or_init(|| region).clone())
    }
}

/// Where a service is: what the operator said, else the usual place.
fn url(options: &CloudOptions, service: &str, region: &str) -> Result<Url, Failure> {
    let of_service = format!("AWS_ENDPOINT_URL_{}", service.to_ascii_uppercase().replace('-', "_"));
    let said = options.endpoint(Provider::Aws, service, &[&of_service, "AWS_ENDPOINT_URL"]);
    let said = said.map_err(|error| Failure::Invalid(error.to_string()))?;
    Ok(said.unwrap_or_else(|| endpoint::of(service, region)))
}

#[async_trait]
impl Vendor for Aws {
    async fn prepare(&self, http: &Http, request: &Request) -> Result<Prepared, Failure> {
        let Operation::Action { name, parameters } = &request.operation else {
            return Err(Failure::Invalid("AWS is asked by actions, not by REST calls".to_owned()));
        };
        let region = self.region(http, request).await?;
        let url = url(&self.options, &request.service, &region)?;
        let keys = self.credentials.keys(http, &self.imds, &region).await?;
        let form = sign::form(name, &request.version, parameters);
        let scope = sign::Scope { region: &region, service: &request.service, time: SystemTime::now() };
        sign::signed(url, form, &keys, &scope)
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        let code = if answer.status < 400 { None } else { xml::text_of(&answer.body, "Code") };
        let is_in = |codes: &[&str]| code.is_some_and(|code| codes.contains(&code));
        if answer.status == 429 || is_in(&THROTTLED) {
            let header = answer.headers.iter().find(|(name, _)| name == "retry-after");
            let wait = header.and_then(|(_, value)| value.trim().parse().ok());
            return Verdict::Throttled(wait.map(Duration::from_secs));
        }
        if is_in(&CREDENTIALS) {
            return Verdict::CredentialsRefused;
        }
        if answer.status >= 500 { Verdict::Failed } else { Verdict::Final }
    }

    fn forget_credentials(&self) {
        self.credentials.forget();
    }

    async fn instance(&self, http: &Http) -> Result<Instance, Failure> {
        self.imds.instance(http).await
    }
}

#[cfg(test)]
mod tests;
