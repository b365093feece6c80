//! Google Cloud: REST APIs with JSON, OAuth 2.0 access tokens, and the metadata service of Compute Engine.

mod account;
mod credentials;
mod judge;
mod metadata;
mod reach;
mod token;

use async_trait::async_trait;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};

use super::options::CloudOptions;
use super::percent;
use super::request::{Answer, Failure, Instance, Operation, Provider, Request};
use super::vendor::{Prepared, ResponseClass, Vendor};
use crate::Secret;
use crate::http::{Http, HttpError, Url};
use credentials::Credentials;
use metadata::Metadata;

pub(super) use reach::{is_instance, is_network, reaches, routes};

/// Google Cloud.
pub(crate) struct Google {
    options: CloudOptions,
    credentials: Credentials,
}

impl Google {
    /// With what the operator has said. Nothing is read before there is a request.
    pub(crate) fn new(options: CloudOptions) -> Self {
        Self { credentials: Credentials::new(options.variables.clone()), options }
    }

    /// Where a service's API of a version begins, without a slash at the end. Google's own tools want their variable to say service and
    /// version, too; an endpoint without a path is completed.
    fn base(&self, service: &str, version: &str) -> Result<Url, Failure> {
        let variable =
            format!("CLOUDSDK_API_ENDPOINT_OVERRIDES_{}", service.replace('-', "_").to_ascii_uppercase());
        let said = self.options.endpoint(Provider::Google, service, &[&variable]);
        let said = said.map_err(|error| Failure::Invalid(error.to_string()))?;
        let usual = || Url {
            secure: true,
            host: format!("{service}.googleapis.com"),
            port: 443,
            path: "/".to_owned(),
        };
        let url = said.unwrap_or_else(usual);
        let path = match url.path.trim_end_matches('/') {
            "" => format!("/{service}/{version}"),
            path => path.to_owned(),
        };
        Ok(Url { path, ..url })
    }
}

#[async_trait]
impl Vendor for Google {
    async fn prepare(&self, http: &Http, request: &Request) -> Result<Prepared, Failure> {
        let Operation::Rest { method, path, query, body } = &request.operation else {
            return Err(Failure::Invalid("Google's APIs have REST calls, and no actions".to_owned()));
        };
        let base = self.base(&request.service, &request.version)?;
        let mut url = Url { path: format!("{}/{path}", base.path), ..base };
        for (name, value) in query {
            url = url.with(&percent(name), &percent(value));
        }
        let token = self.credentials.token(http, token::scope(&request.service)).await?;
        let mut headers = vec![(AUTHORIZATION, bearer(&token)?)];
        if body.is_some() {
            headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        }
        let method = (*method).into();
        let body = Bytes::from(body.clone().unwrap_or_default());
        Ok(Prepared { method, url, headers, body, secrets: vec![token] })
    }

    fn classify(&self, answer: &Answer) -> ResponseClass {
        judge::verdict(answer)
    }

    fn forget_credentials(&self) {
        self.credentials.forget();
    }

    async fn instance(&self, http: &Http) -> Result<Instance, Failure> {
        Metadata::new(&self.options.variables)?.instance(http).await
    }
}

/// The header that an access token is sent in.
fn bearer(token: &Secret) -> Result<HeaderValue, Failure> {
    let text = Secret::new(format!("Bearer {}", token.reveal()));
    let value = HeaderValue::from_str(text.reveal());
    let mut value = value.map_err(|_| Failure::Credentials("the access token is no text".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What an error of HTTP means for credentials: it has nothing in it that the other side has written.
fn no_credentials(error: &HttpError) -> Failure {
    Failure::Credentials(error.to_string())
}

#[cfg(test)]
mod tests;
