//! `http`: requests to endpoints that the operator has named. What may be asked there, and with whose credentials, the operator's file says
//! (`flannel_cloud`); in here is what a plugin is granted of it. Time and number of requests are those of `cloud`, together with it.

use flannel_cloud::{Answer, EndpointRequest, Failure, Method};

use super::HostState;
use super::cloud::counted;
use crate::bindings::flannel::backend::http as wit;
use crate::convert;

impl wit::Host for HostState {
    fn send(&mut self, request: wit::Request) -> wasmtime::Result<Result<wit::Response, wit::Error>> {
        self.enter("http.send")?;
        let request = request_of(request);
        let outcome = self.operation(&request).and_then(|operation| {
            let provider = format!("http:{}", request.endpoint);
            let answer = self.wait_for(provider, operation, |host, deadline| {
                counted(host.environment.endpoints.send(&request, deadline))
            })?;
            let Answer { status, headers, body, attempts } = answer;
            Ok(wit::Response { status, headers, body, attempts })
        });
        Ok(self.doomed_by("http.send", outcome))
    }
}

impl HostState {
    /// Which entry of the operator's list a request is.
    fn operation(&self, request: &EndpointRequest) -> Result<String, Failure> {
        let name = &request.endpoint;
        if self.endpoints.has(name) {
            return self.environment.endpoints.operation(request);
        }
        let shown = convert::shown(name, 80);
        Err(Failure::Denied(format!(
            "the endpoint {shown:?} is not granted; the grant for it would be \"http:{shown}\", in the file of --plugin-grants or with \
             --allow"
        )))
    }
}

fn request_of(request: wit::Request) -> EndpointRequest {
    let wit::Request { endpoint, method, path, query, headers, body, idempotent } = request;
    let method = match method {
        wit::Method::Get => Method::Get,
        wit::Method::Head => Method::Head,
        wit::Method::Post => Method::Post,
        wit::Method::Put => Method::Put,
        wit::Method::Patch => Method::Patch,
        wit::Method::Delete => Method::Delete,
    };
    EndpointRequest { endpoint, method, path, query, headers, body, idempotent }
}

impl From<Failure> for wit::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Invalid(text) => Self::Invalid(text),
            Failure::Denied(text) => Self::Denied(text),
            Failure::Credentials(text) => Self::Credentials(text),
            Failure::Unreachable(text) => Self::Unreachable(text),
        }
    }
}
