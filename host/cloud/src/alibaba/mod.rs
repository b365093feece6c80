//! Alibaba Cloud: RPC APIs with signature version 3, credentials of the network config, the environment or the instance's RAM role,
//! and the instance's metadata.

mod credentials;
mod endpoint;
mod metadata;
mod reach;
mod sign;

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use super::access_key::Credentials;
use super::imds::Imds;
use super::options::CloudOptions;
use super::request::{Answer, Failure, Instance, Operation, Provider, Request};
use super::vendor::{Prepared, ResponseClass, Vendor};
use crate::http::{Http, Url};

pub(super) use reach::{reaches, routes};

/// Codes of errors that other credentials might not meet.
const CREDENTIALS: [&str; 3] = ["InvalidSecurityToken", "InvalidAccessKeyId", "MissingSecurityToken"];
/// Milliseconds after which a request that was turned away may come again: what the vendor's SDKs look at.
const RETRY_AFTER: &str = "x-acs-retry-after";

/// Alibaba Cloud.
pub(crate) struct Alibaba {
    options: CloudOptions,
    metadata: Imds,
    credentials: Credentials,
    /// This machine's, which never changes.
    region: OnceLock<String>,
}

impl Alibaba {
    /// With what the operator has said. Asks nobody.
    pub(crate) fn new(options: CloudOptions) -> Self {
        let metadata = metadata::service(&options.variables);
        let credentials = Credentials::new(&credentials::DIALECT, &options);
        Self { options, metadata, credentials, region: OnceLock::new() }
    }

    async fn url(&self, http: &Http, request: &Request) -> Result<Url, Failure> {
        let said = self.options.endpoint(Provider::Alibaba, &request.service, &[]);
        if let Some(url) = said.map_err(|error| Failure::Invalid(error.to_string()))? {
            return Ok(url);
        }
        if let Some(region) = request.region.as_ref().or(self.region.get()) {
            return Ok(endpoint::of(&request.service, region));
        }
        let region = metadata::region(&self.metadata.session(http).await?).await?;
        Ok(endpoint::of(&request.service, self.region.get_or_init(|| region)))
    }
}

#[async_trait]
impl Vendor for Alibaba {
    async fn prepare(&self, http: &Http, request: &Request) -> Result<Prepared, Failure> {
        let Operation::Action { name, parameters } = &request.operation else {
            return Err(Failure::Invalid("Alibaba Cloud is asked by actions, not by REST calls".to_owned()));
        };
        let url = self.url(http, request).await?;
        let keys = self.credentials.keys(http, &self.metadata).await?;
        let what = sign::Action { name, version: &request.version, parameters };
        sign::signed(url, &what, &keys, &sign::SigningParams::now()?)
    }

    fn classify(&self, answer: &Answer) -> ResponseClass {
        let code = code(answer);
        if answer.status == 429 || code.starts_with("Throttling") {
            let header = answer.headers.iter().find(|(name, _)| name == RETRY_AFTER);
            let wait = header.and_then(|(_, value)| value.trim().parse().ok());
            return ResponseClass::Throttled(wait.map(Duration::from_millis));
        }
        if CREDENTIALS.iter().any(|family| code.starts_with(family)) {
            return ResponseClass::CredentialsRefused;
        }
        if answer.status >= 500 { ResponseClass::Failed } else { ResponseClass::Final }
    }

    fn forget_credentials(&self) {
        self.credentials.forget();
    }

    async fn instance(&self, http: &Http) -> Result<Instance, Failure> {
        metadata::instance(&self.metadata.session(http).await?).await
    }
}

/// An error's code; empty where there is none.
fn code(answer: &Answer) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Error {
        code: String,
    }
    serde_json::from_str(&answer.body).map(|Error { code }| code).unwrap_or_default()
}

#[cfg(test)]
mod tests;
