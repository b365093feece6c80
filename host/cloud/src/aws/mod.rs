//! Amazon Web Services: query APIs with signature version 4, credentials from the places where Amazon's own tools look, and the
//! instance's metadata.

mod credentials;
mod ecs;
mod endpoint;
mod judge;
mod keys;
mod metadata;
mod profile;
mod reach;
mod sign;
mod web_identity;
mod xml;

use std::sync::OnceLock;
use std::time::SystemTime;

use async_trait::async_trait;

use super::imds::Imds;
use super::is_label;
use super::options::CloudOptions;
use super::request::{Answer, Failure, Instance, Operation, Provider, Request};
use super::vendor::{Prepared, ResponseClass, Vendor};
use crate::Secret;
use crate::access_key::AccessKey;
use crate::http::{Http, Url};
use credentials::Credentials;

pub(crate) use endpoint::place;
pub(super) use reach::reaches;

/// Variables with this machine's region.
const REGION: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// Amazon Web Services.
pub(crate) struct Aws {
    places: AwsContext,
    credentials: Credentials,
}

/// Where everything is.
struct AwsContext {
    options: CloudOptions,
    metadata: Imds,
    /// This machine's, which never changes.
    region: OnceLock<String>,
}

impl AwsContext {
    /// This machine's region.
    async fn region(&self, http: &Http) -> Result<String, Failure> {
        if let Some(region) = self.region.get() {
            return Ok(region.clone());
        }
        let said = REGION.iter().find_map(|name| Some((*name, self.options.variables.get(name)?)));
        let region = match said {
            Some((_, region)) if is_label(&region) => region,
            Some((name, region)) => {
                return Err(Failure::Invalid(format!("{name}: {region:?} is no region")));
            }
            None => metadata::region(&self.metadata.session(http).await?).await?,
        };
        Ok(self.region.get_or_init(|| region).clone())
    }

    /// Where a service of a region is.
    fn url(&self, service: &str, region: &str) -> Result<Url, Failure> {
        let own = format!("AWS_ENDPOINT_URL_{}", service.replace('-', "_").to_ascii_uppercase());
        let said = self.options.endpoint(Provider::Aws, service, &[&own, "AWS_ENDPOINT_URL"]);
        let said = said.map_err(|error| Failure::Invalid(error.to_string()))?;
        Ok(said.unwrap_or_else(|| endpoint::of(service, region)))
    }
}

impl Aws {
    /// With what the operator has said. Asks nobody.
    pub(crate) fn new(options: CloudOptions) -> Self {
        let metadata = metadata::service(&options.variables);
        Self {
            places: AwsContext { options, metadata, region: OnceLock::new() },
            credentials: Credentials::default(),
        }
    }
}

/// Whom a request is signed for.
pub(crate) struct Signature<'a> {
    /// As signatures name it: `execute-api`.
    pub(crate) service: &'a str,
    /// None: this machine's.
    pub(crate) region: Option<&'a str>,
    /// None: those of the chain.
    pub(crate) keys: Option<AccessKey>,
}

impl Aws {
    /// Signs a request that is not of this vendor's own making. The path has to be percent-encoded.
    pub(crate) async fn sign(
        &self,
        http: &Http,
        prepared: &mut Prepared,
        whose: Signature<'_>,
    ) -> Result<(), Failure> {
        let region = match whose.region {
            Some(region) => region.to_owned(),
            None => self.places.region(http).await?,
        };
        let keys = match whose.keys {
            Some(keys) => keys,
            None => self.credentials.keys(http, &self.places).await?,
        };
        let scope = sign::Scope { region: &region, service: whose.service, time: SystemTime::now() };
        sign::sign(prepared, &keys, &scope)
    }
}

/// The keys of a profile in a file of the form of `~/.aws/credentials`; none: it has none.
pub(crate) fn keys_of_profile(text: &Secret, profile: &str) -> Option<AccessKey> {
    profile::find(text.reveal(), profile)
}

/// What an error's code means, whichever service it is of; none: nothing that is the same everywhere.
pub(crate) fn verdict_of_code(answer: &Answer) -> Option<ResponseClass> {
    judge::of_code(answer)
}

#[async_trait]
impl Vendor for Aws {
    async fn prepare(&self, http: &Http, request: &Request) -> Result<Prepared, Failure> {
        let Operation::Action { name, parameters } = &request.operation else {
            return Err(Failure::Invalid("AWS is asked by actions, not by REST calls".to_owned()));
        };
        let region = match &request.region {
            Some(region) => region.clone(),
            None => self.places.region(http).await?,
        };
        let url = self.places.url(&request.service, &region)?;
        let keys = self.credentials.keys(http, &self.places).await?;
        let scope = sign::Scope { region: &region, service: &request.service, time: SystemTime::now() };
        sign::signed(url, sign::form(name, &request.version, parameters), &keys, &scope)
    }

    fn classify(&self, answer: &Answer) -> ResponseClass {
        judge::verdict(answer)
    }

    fn forget_credentials(&self) {
        self.credentials.forget();
    }

    async fn instance(&self, http: &Http) -> Result<Instance, Failure> {
        metadata::instance(&self.places.metadata.session(http).await?).await
    }

    async fn region(&self, http: &Http) -> Result<Option<String>, Failure> {
        self.places.region(http).await.map(Some)
    }
}

#[cfg(test)]
mod tests;
