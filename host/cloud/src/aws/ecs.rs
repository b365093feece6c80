//! Credentials that an agent beside a container gives: of ECS tasks, and of EKS Pod Identity.
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>

use std::time::Duration;

use flannel_privileges::with_privileges;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HeaderValue};

use super::keys;
use crate::Secret;
use crate::access_key::AccessKey;
use crate::http::{Http, Url, is_loopback};
use crate::options::Variables;
use crate::request::Failure;

const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
/// Where the agent of ECS is.
const AGENT: &str = "http://169.254.170.2";
/// Who may be asked without TLS: agents of ECS and EKS, and this machine itself.
const AGENTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of the longest answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Whether there is an agent.
pub(super) fn is_there(variables: &Variables) -> bool {
    variables.get(RELATIVE).or_else(|| variables.get(FULL)).is_some()
}

/// Asks the agent.
pub(super) async fn keys(http: &Http, variables: &Variables) -> Result<AccessKey, Failure> {
    let (name, text) = match variables.get(RELATIVE) {
        Some(path) => (RELATIVE, format!("{AGENT}{path}")),
        None => (FULL, variables.get(FULL).unwrap_or_default()),
    };
    let failed = |reason: String| Failure::Credentials(format!("{name}: {reason}"));
    let url = Url::parse(&text).ok_or_else(|| failed("it is no URL".to_owned()))?;
    if !url.secure && !is_loopback(&url.host) && !AGENTS.contains(&url.host.as_str()) {
        return Err(failed(format!("{} is not asked without TLS", url.authority())));
    }
    let mut request = Request::new(Full::new(Bytes::new()));
    if let Some(token) = token(variables)? {
        let value = HeaderValue::from_str(token.reveal());
        let mut value = value.map_err(|_| failed("the authorization token is none".to_owned()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let answer = http.send(&url, request, READ_TIMEOUT).await.map_err(|error| failed(error.to_string()))?;
    let status = answer.response.status();
    if status != 200 {
        return Err(failed(format!("{} answers {}", url.shown(), status.as_u16())));
    }
    let body = answer.body("answer", MAX_ANSWER_BYTES).await.map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8(body).ok().map(Secret::new);
    let given = text.as_ref().and_then(keys::of_json);
    given.ok_or_else(|| failed(format!("{} has no keys", url.shown())))
}

fn token(variables: &Variables) -> Result<Option<Secret>, Failure> {
    const NAME: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
    let Some(file) = variables.get(NAME) else {
        return Ok(variables.get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new));
    };
    let read = with_privileges(|| std::fs::read_to_string(&file)).map(Secret::new);
    let read = read.map_err(|error| Failure::Credentials(format!("{NAME}: {file}: {error}")))?;
    Ok(Some(Secret::new(read.reveal().trim().to_owned())))
}
