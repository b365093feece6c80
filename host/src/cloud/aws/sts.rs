//! Credentials for a web identity: a token that somebody else has issued (Kubernetes, say) for those of a role.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request};

use super::credentials::Keys;
use super::{sign, url, xml};
use crate::cloud::options::CloudOptions;
use crate::cloud::request::Failure;
use crate::cloud::secret::Secret;
use crate::http::Http;

const FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const ROLE: &str = "AWS_ROLE_ARN";
const SESSION: &str = "AWS_ROLE_SESSION_NAME";
/// Bytes of the longest answer.
const LARGEST: usize = 64 << 10;

/// Credentials of the role that the environment names; none: it names none.
pub(super) async fn keys(options: &CloudOptions, http: &Http, region: &str) -> Result<Option<Keys>, Failure> {
    let (Some(file), Some(role)) = (options.variables.get(FILE), options.variables.get(ROLE)) else {
        return Ok(None);
    };
    let failed =
        |what: String| Failure::Credentials(format!("{ROLE} {role} with the token in {file}: {what}"));
    let token = std::fs::read_to_string(&file).map_err(|error| failed(error.to_string()))?;
    let token = Secret::new(token.trim().to_owned());
    let session = options.variables.get(SESSION).unwrap_or_else(|| "flanneld".to_owned());
    let parameters = [
        ("RoleArn".to_owned(), role.clone()),
        ("RoleSessionName".to_owned(), session),
        ("WebIdentityToken".to_owned(), token.reveal().to_owned()),
    ];
    let form = sign::form("AssumeRoleWithWebIdentity", "2011-06-15", &parameters);
    let mut request = Request::new(Full::new(Bytes::from(form)));
    *request.method_mut() = Method::POST;
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
    request.headers_mut().insert(CONTENT_TYPE, kind);
    let answer = http.send(&url(options, "sts", region)?, request, http.times().answer).await;
    let answer = answer.map_err(|error| failed(error.to_string()))?;
    let status = answer.response.status().as_u16();
    let body = answer.body("answer", LARGEST).await.map_err(|error| failed(error.to_string()))?;
    let body = Secret::new(String::from_utf8_lossy(&body).into_owned());
    if status != 200 {
        let code = xml::text_of(body.reveal(), "Code").unwrap_or("no code");
        let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        return Err(failed(format!("STS answers {status} {code}")));
    }
    let text = |name: &str| xml::text_of(body.reveal(), name).map(str::to_owned);
    let keys = || {
        Some(Keys {
            id: text("AccessKeyId")?,
            secret: Secret::new(text("SecretAccessKey")?),
            token: Some(Secret::new(text("SessionToken")?)),
            expires: Some(text("Expiration")?.parse().ok()?),
        })
    };
    keys().map(Some).ok_or_else(|| failed("STS answers without credentials".to_owned()))
}
