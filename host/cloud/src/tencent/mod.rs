//! Tencent Cloud: API 3.0 with signature `TC3-HMAC-SHA256`, credentials of the network config, the environment or the instance's CAM role,
//! and the instance's metadata.

mod credentials;
mod metadata;
mod reach;
mod sign;

use std::sync::OnceLock;

use async_trait::async_trait;
use flannel_base::Timestamp;
use serde::Deserialize;

use super::access_key::Credentials;
use super::imds::Imds;
use super::nested;
use super::options::CloudOptions;
use super::request::{Answer, Failure, Instance, Operation, Provider, Request};
use super::vendor::{Prepared, ResponseClass, Vendor};
use crate::http::{Http, Url};

pub(super) use reach::{reaches, routes};

/// Codes of errors that other credentials might not meet.
const CREDENTIALS: [&str; 3] =
    ["AuthFailure.SecretIdNotFound", "AuthFailure.TokenFailure", "AuthFailure.InvalidSecretId"];
/// What codes of errors begin with that are the cloud's own.
const FAILED: [&str; 3] = ["InternalError", "InternalServerError", "ServiceUnavailable"];

/// Tencent Cloud.
pub(crate) struct Tencent {
    options: CloudOptions,
    metadata: Imds,
    credentials: Credentials,
    /// This machine's, which never changes.
    region: OnceLock<String>,
}

impl Tencent {
    /// With what the operator has said. Asks nobody.
    pub(crate) fn new(options: CloudOptions) -> Self {
        let metadata = metadata::service(&options);
        let credentials = Credentials::new(&credentials::DIALECT, &options);
        Self { options, metadata, credentials, region: OnceLock::new() }
    }

    /// All regions are asked at the same place, which is told which one is meant.
    fn url(&self, service: &str) -> Result<Url, Failure> {
        let said = self.options.endpoint(Provider::Tencent, service, &[]);
        let said = said.map_err(|error| Failure::Invalid(error.to_string()))?;
        let usual = || Url {
            secure: true,
            host: format!("{service}.tencentcloudapi.com"),
            port: 443,
            path: "/".to_owned(),
        };
        Ok(said.unwrap_or_else(usual))
    }

    async fn region(&self, http: &Http, request: &Request) -> Result<String, Failure> {
        if let Some(region) = request.region.as_ref().or(self.region.get()) {
            return Ok(region.clone());
        }
        let region = metadata::region(&self.metadata.session(http).await?).await?;
        Ok(self.region.get_or_init(|| region).clone())
    }
}

#[async_trait]
impl Vendor for Tencent {
    async fn prepare(&self, http: &Http, request: &Request) -> Result<Prepared, Failure> {
        let Operation::Action { name, parameters } = &request.operation else {
            return Err(Failure::Invalid("Tencent Cloud is asked by actions, not by REST calls".to_owned()));
        };
        let url = self.url(&request.service)?;
        let region = self.region(http, request).await?;
        let keys = self.credentials.keys(http, &self.metadata).await?;
        let action = sign::Action {
            service: &request.service,
            name,
            version: &request.version,
            region: &region,
            body: nested::object(parameters)?.to_string(),
        };
        sign::signed(url, action, &keys, Timestamp::now())
    }

    /// Errors have the status 200.
    fn classify(&self, answer: &Answer) -> ResponseClass {
        let code = code(answer);
        if answer.status == 429 || code.starts_with("RequestLimitExceeded") {
            return ResponseClass::Throttled(None);
        }
        if CREDENTIALS.iter().any(|family| code.starts_with(family)) {
            return ResponseClass::CredentialsRefused;
        }
        let is_failure = answer.status >= 500 || FAILED.iter().any(|family| code.starts_with(family));
        if is_failure { ResponseClass::Failed } else { ResponseClass::Final }
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
    struct Body {
        response: Response,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Response {
        error: Error,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Error {
        code: String,
    }
    serde_json::from_str(&answer.body).map(|body: Body| body.response.error.code).unwrap_or_default()
}

#[cfg(test)]
mod tests;
