//! What differs from cloud to cloud.

use std::time::Duration;

use async_trait::async_trait;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, body::Bytes};

use super::request::{Answer, Failure, Instance, Request};
use crate::Secret;
use crate::http::{Http, Url};

/// A request as it goes over the wire: signed, and to be sent once.
#[derive(Debug)]
pub struct Prepared {
    /// HTTP's method.
    pub method: Method,
    /// Where it goes, with its query.
    pub url: Url,
    /// All headers but `Host` and `User-Agent`, which the client sets. For signatures, `Host` is [`Url::authority`]. Those with
    /// credentials in them are marked as sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
    /// Whatever must not come back: it is taken out of the answer, should the other side repeat it.
    pub secrets: Vec<Secret>,
}

/// What an answer means for the one who sends requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseClass {
    /// It is for the plugin, be it good or bad news.
    Final,
    /// Turned away for being too many, so not carried out; after this long at the earliest, if the cloud said so.
    Throttled(Option<Duration>),
    /// The cloud itself has failed. It may have been carried out.
    Failed,
    /// The credentials are too old, or not known yet: others might do.
    CredentialsRefused,
}

/// A cloud.
#[async_trait]
pub trait Vendor: Send + Sync {
    /// Addresses and signs a request. Called anew for each attempt, since signatures have a time in them.
    async fn prepare(&self, http: &Http, request: &Request) -> Result<Prepared, Failure>;

    /// What an answer means.
    fn classify(&self, answer: &Answer) -> ResponseClass;

    /// Forgets the credentials that are kept: the next request gets them anew from where they come from.
    fn forget_credentials(&self);

    /// What the metadata service says of this machine. Asked anew each time; the client keeps the answer.
    async fn instance(&self, http: &Http) -> Result<Instance, Failure>;

    /// The region that is asked where a request names none, if that may be another one than [`Vendor::instance`] has.
    async fn region(&self, _http: &Http) -> Result<Option<String>, Failure> {
        Ok(None)
    }
}

/// A header's value. The error does not show it, since it may be a secret.
pub(crate) fn header_value(name: &str, value: &str) -> Result<HeaderValue, Failure> {
    let unfit =
        |_| Failure::Invalid(format!("the header {name} would have characters that no header may have"));
    HeaderValue::from_str(value).map_err(unfit)
}
