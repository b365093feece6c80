//! An API that is not there, asked by the real client.

mod azure;
mod keystone;
mod requests;
mod sigv4;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use flannel_cloud::{CloudOptions, EndpointClient, EndpointRequest, Endpoints, Method, Variables};
use flannel_fake_cloud::Turn;

const SECRET: &str = "made-up/secret+of=the&test";
const ALLOW: &str =
    r#"allow = ["GET /things/*", "POST /things/*/actions/go", "DELETE /things/*", "GET /things/"]"#;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("written");
        // Whatever the umask is.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode");
        path
    }

    fn client(&self, url: &str, more: &str) -> EndpointClient {
        self.client_with(url, more, &[])
    }

    /// One that sees these variables.
    fn client_with(&self, url: &str, more: &str, variables: &[(&'static str, &str)]) -> EndpointClient {
        let variables = variables.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let options = CloudOptions {
            variables: Variables::of(variables),
            endpoints: BTreeMap::new(),
            authorities: None,
            access_key: None,
        };
        let path =
            self.write("endpoints.toml", &format!("[endpoint.api]\nurl = \"{url}/v1\"\n{ALLOW}\n{more}\n"));
        EndpointClient::new(Endpoints::read(&path).expect("read"), options)
    }
}

fn request(method: Method, path: &str) -> EndpointRequest {
    EndpointRequest {
        endpoint: "api".to_owned(),
        method,
        path: path.to_owned(),
        query: Vec::new(),
        headers: Vec::new(),
        body: None,
        idempotent: false,
    }
}

fn get() -> EndpointRequest {
    EndpointRequest { idempotent: true, ..request(Method::Get, "/things/1") }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn raw(status: u16, headers: &str, body: &str) -> Turn {
    Turn::Raw(format!(
        "HTTP/1.1 {status} -\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ))
}

/// The line of a question that begins so, in lower case.
fn line<'q>(question: &'q str, begin: &str) -> Option<&'q str> {
    question.lines().find(|line| line.to_ascii_lowercase().starts_with(begin))
}
