//! Requests to APIs over HTTP that the operator has named, with credentials that the host adds. All of it is for
//! [`crate::Policy::tick`] and [`crate::Retire::retire`].
//!
//! Redirections are not followed.
//!
//! An endpoint is a name in the operator's file (`--http-endpoints`), which also says what may be asked there; a plugin is granted
//! `http:NAME`.

pub use crate::answer::{CallError, Error, Response};

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

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The endpoint's name.
    pub endpoint: String,
    /// How.
    pub method: Method,
    /// Below the endpoint's URL, with a slash in front.
    pub path: String,
    /// Not encoded.
    pub query: Vec<(String, String)>,
    /// Beside those that are the host's.
    pub headers: Vec<(String, String)>,
    /// `application/json`, where `Content-Type` does not say otherwise.
    pub body: Option<String>,
    /// Whether it may be sent once more when it is not known whether it was carried out.
    pub idempotent: bool,
}

impl Request {
    /// Of an endpoint.
    pub fn new(endpoint: &str, method: Method, path: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            method,
            path: path.into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            idempotent: false,
        }
    }

    /// It does no harm to send it once more.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// More parameters of the query.
    #[must_use]
    pub fn query(mut self, more: &[(&str, &str)]) -> Self {
        self.query.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, text: impl Into<String>) -> Self {
        self.body = Some(text.into());
        self
    }
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
        let endpoints = crate::testing::with(|host| host.endpoints.take());
        let Some(mut endpoints) = endpoints else {
            return Err(Error::Unreachable("this test has no endpoints".to_owned()));
        };
        let answer = (*endpoints)(request);
        crate::testing::with(|host| host.endpoints = Some(endpoints));
        answer
    }
}

#[cfg(target_family = "wasm")]
mod wasm {
    use super::{Error, Method, Request, Response};
    use crate::bindings::flannel::backend::http as wit;

    pub fn send(request: &Request) -> Result<Response, Error> {
        let Request { endpoint, method, path, query, headers, body, idempotent } = request.clone();
        let method = match method {
            Method::Get => wit::Method::Get,
            Method::Head => wit::Method::Head,
            Method::Post => wit::Method::Post,
            Method::Put => wit::Method::Put,
            Method::Patch => wit::Method::Patch,
            Method::Delete => wit::Method::Delete,
        };
        let asked = wit::Request { endpoint, method, path, query, headers, body, idempotent };
        match wit::send(&asked) {
            Ok(wit::Response { status, headers, body, attempts }) => {
                Ok(Response { status, headers, body, attempts })
            }
            Err(wit::Error::Invalid(text)) => Err(Error::Invalid(text)),
            Err(wit::Error::Denied(text)) => Err(Error::Denied(text)),
            Err(wit::Error::Credentials(text)) => Err(Error::Credentials(text)),
            Err(wit::Error::Unreachable(text)) => Err(Error::Unreachable(text)),
        }
    }
}
