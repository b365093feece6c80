//! Sends requests to endpoints: what is allowed, with credentials, and again where that is safe.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use flannel_base::text::excerpt;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use super::file::{Endpoint, Endpoints};
use super::judge;
use super::outside::Outside;
use super::request::EndpointRequest;
use crate::exchange::{Exchange, Exchanger, TIMES};
use crate::http::{Http, Url};
use crate::vendor::{Prepared, ResponseClass};
use crate::{Answer, CloudOptions, Failure, percent};

/// All endpoints, for one plugin after the other.
pub struct EndpointClient {
    endpoints: BTreeMap<String, (Endpoint, Http)>,
    outside: Outside,
    exchanger: Exchanger,
}

impl EndpointClient {
    /// Nobody is asked, and no credentials are read, before there is a request. `options`: where credentials are found that clouds give the
    /// machines in them.
    pub fn new(endpoints: Endpoints, options: CloudOptions) -> Self {
        let with_http = |(name, endpoint): (String, Endpoint)| {
            let authorities = endpoint.ca_file.clone().or_else(flannel_base::ca_bundle::file);
            let http = Http::new(authorities, endpoint.cleartext, TIMES);
            (name, (endpoint, http))
        };
        let endpoints = endpoints.0.into_iter().map(with_http).collect();
        Self { endpoints, outside: Outside::new(options), exchanger: Exchanger::new() }
    }

    /// The endpoints' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.endpoints.keys().map(String::as_str)
    }

    /// Which entry of `allow` allows a request. The error says what is wrong with it, or what would have to be added.
    pub fn operation(&self, request: &EndpointRequest) -> Result<String, Failure> {
        let (endpoint, _) = self.endpoint(request)?;
        request.check(&endpoint.credentials)?;
        allowed(endpoint, request)
    }

    /// Sends a request; all has to be over by the deadline.
    pub async fn send(&self, request: &EndpointRequest, deadline: Instant) -> Result<Answer, Failure> {
        let (endpoint, http) = self.endpoint(request)?;
        // Whoever asks: nothing else is ever sent.
        let headers = request.check(&endpoint.credentials)?;
        let (outside, operation) = (&self.outside, allowed(endpoint, request)?);
        let exchange = EndpointExchange { endpoint, outside, request, operation, headers };
        let answer = self.exchanger.send(http, &exchange, deadline).await?;
        // What was not asked for could have anything in it.
        let coding = answer.headers.iter().find(|(name, _)| name == "content-encoding");
        if let Some((_, coding)) = coding.filter(|(_, coding)| !coding.eq_ignore_ascii_case("identity")) {
            return Err(Failure::Unreachable(format!(
                "{}: the answer is encoded ({}), which was not asked for",
                endpoint.url.shown(),
                excerpt(coding)
            )));
        }
        Ok(answer)
    }

    /// Nobody waits any more: what is under way fails, and so does all that comes.
    pub fn close(&self) {
        self.exchanger.close();
    }

    fn endpoint(&self, request: &EndpointRequest) -> Result<&(Endpoint, Http), Failure> {
        self.endpoints.get(&request.endpoint).ok_or_else(|| {
            let names: Vec<&str> = self.names().collect();
            let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Failure::Denied(format!(
                "the file of --http-endpoints has no endpoint {:?}; there are: {there}",
                excerpt(&request.endpoint)
            ))
        })
    }
}

fn allowed(endpoint: &Endpoint, request: &EndpointRequest) -> Result<String, Failure> {
    let EndpointRequest { endpoint: name, method, path, .. } = request;
    let allowing = endpoint.allow.iter().find(|pattern| pattern.allows(*method, path));
    allowing.map(ToString::to_string).ok_or_else(|| {
        let all: Vec<String> = endpoint.allow.iter().map(ToString::to_string).collect();
        Failure::Denied(format!(
            "{} {} is none of what the file of --http-endpoints allows of {name}: {}; to allow it, add it there to allow, with * \
             for a segment that varies",
            method.name(),
            excerpt(path),
            all.join(", ")
        ))
    })
}

/// A request to an endpoint, which is allowed.
struct EndpointExchange<'a> {
    endpoint: &'a Endpoint,
    outside: &'a Outside,
    request: &'a EndpointRequest,
    operation: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[async_trait]
impl Exchange for EndpointExchange<'_> {
    async fn prepare(&self, http: &Http) -> Result<Prepared, Failure> {
        let base = &self.endpoint.url;
        let mut url = Url { path: format!("{}{}", base.path, self.request.path), ..base.clone() };
        for (name, value) in &self.request.query {
            url = url.with(&percent(name), &percent(value));
        }
        let mut headers = self.headers.clone();
        if self.request.body.is_some() && !headers.iter().any(|(name, _)| *name == CONTENT_TYPE) {
            headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        }
        let body = Bytes::from(self.request.body.clone().unwrap_or_default());
        let (method, secrets) = (self.request.method.into(), Vec::new());
        let mut prepared = Prepared { method, url, headers, body, secrets };
        self.endpoint.credentials.add(http, self.outside, &mut prepared).await?;
        Ok(prepared)
    }

    fn classify(&self, answer: &Answer) -> ResponseClass {
        let special = self.endpoint.credentials.verdict(answer);
        special.unwrap_or_else(|| judge::verdict(answer, SystemTime::now()))
    }

    fn forget_credentials(&self) {
        self.endpoint.credentials.forget(self.outside);
    }

    fn is_idempotent(&self) -> bool {
        self.request.idempotent
    }

    fn shown(&self) -> (String, String) {
        (self.request.endpoint.clone(), self.operation.clone())
    }
}
