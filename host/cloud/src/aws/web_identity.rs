//! A session of a role that a token of Kubernetes (or another identity provider) is given for: IAM roles for service accounts.
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>

use flannel_privileges::with_privileges;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request};

use super::keys;
use super::xml::element;
use super::{AwsContext, sign};
use crate::Secret;
use crate::access_key::AccessKey;
use crate::http::Http;
use crate::request::Failure;

const FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const ROLE: &str = "AWS_ROLE_ARN";
const SESSION: &str = "AWS_ROLE_SESSION_NAME";
/// Bytes of the longest answer.
const MAX_ANSWER_BYTES: usize = 256 << 10;

/// Whether there is such a token.
pub(super) fn is_there(places: &AwsContext) -> bool {
    places.options.variables.get(FILE).is_some()
}

/// Asks the token service for a session. The request needs no signature: the token is what it is granted for.
pub(super) async fn keys(http: &Http, places: &AwsContext) -> Result<AccessKey, Failure> {
    let variables = &places.options.variables;
    let failed = |reason: String| Failure::Credentials(format!("AssumeRoleWithWebIdentity: {reason}"));
    let file = variables.get(FILE).unwrap_or_default();
    let role = variables.get(ROLE).ok_or_else(|| failed(format!("{FILE} is set, and {ROLE} is not")))?;
    let session = variables.get(SESSION).unwrap_or_else(|| "flanneld".to_owned());
    // Read anew each time, since it is replaced before it expires.
    let read = with_privileges(|| std::fs::read_to_string(&file)).map(Secret::new);
    let token = read.map_err(|error| failed(format!("{FILE}: {file}: {error}")))?;
    let region = places.region(http).await?;
    let url = places.url("sts", &region)?;
    let parameters = [
        ("RoleArn".to_owned(), role.clone()),
        ("RoleSessionName".to_owned(), session),
        ("WebIdentityToken".to_owned(), token.reveal().trim().to_owned()),
    ];
    let form = sign::form("AssumeRoleWithWebIdentity", "2011-06-15", &parameters);
    let mut request = Request::new(Full::new(Bytes::from(form)));
    *request.method_mut() = Method::POST;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(sign::FORM));
    let answer = http.send(&url, request, http.times().answer).await;
    let answer = answer.map_err(|error| failed(error.to_string()))?;
    let status = answer.response.status().as_u16();
    let body = answer.body("answer", MAX_ANSWER_BYTES).await.map_err(|error| failed(error.to_string()))?;
    let body = String::from_utf8(body).map(Secret::new);
    let body = body.map_err(|_| failed("the answer is no text".to_owned()))?;
    let find = |name: &str| element(body.reveal(), name);
    if status != 200 {
        let code = find("Code").filter(|code| code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        return Err(failed(format!("AWS answers {status} {} for {role}", code.unwrap_or("-"))));
    }
    let given = || {
        let (id, secret) =
            (find("AccessKeyId")?.to_owned(), Secret::new(find("SecretAccessKey")?.to_owned()));
        let token = Some(Secret::new(find("SessionToken")?.to_owned()));
        AccessKey { id, secret, token, expires: Some(keys::time(find("Expiration")?)?) }.checked()
    };
    given().ok_or_else(|| failed(format!("the answer of {} is not what AWS documents", url.shown())))
}
