//! Signature version 4, by Amazon's own crate: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};

use crate::Secret;
use crate::access_key::AccessKey;
use crate::http::Url;
use crate::percent;
use crate::request::Failure;
use crate::vendor::Prepared;

/// What the body of a query API's request is.
pub(super) const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// What a signature is good for.
pub(super) struct Scope<'a> {
    pub region: &'a str,
    pub service: &'a str,
    pub time: SystemTime,
}

/// The body of a request.
pub(super) fn form(action: &str, version: &str, parameters: &[(String, String)]) -> String {
    let own = [("Action", action), ("Version", version)];
    let all = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let pairs: Vec<String> = own
        .into_iter()
        .chain(all)
        .map(|(name, value)| format!("{}={}", percent(name), percent(value)))
        .collect();
    pairs.join("&")
}

/// The request as it is sent.
pub(super) fn signed(url: Url, body: String, keys: &AccessKey, scope: &Scope) -> Result<Prepared, Failure> {
    // What the crate says of its errors has nothing of the request in it.
    let failed = |error: &dyn std::error::Error| Failure::Invalid(format!("cannot be signed: {error}"));
    let token = keys.token.as_ref().map(|token| token.reveal().to_owned());
    let identity = Credentials::new(&keys.id, keys.secret.reveal(), token, None, "flanneld").into();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region(scope.region)
        .name(scope.service)
        .time(scope.time)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| failed(&error))?
        .into();
    let uri = format!("{}://{}{}", if url.secure { "https" } else { "http" }, url.authority(), url.path);
    let content = [(CONTENT_TYPE.as_str(), FORM)].into_iter();
    let signable = SignableRequest::new("POST", uri, content, SignableBody::Bytes(body.as_bytes()));
    let signable = signable.map_err(|error| failed(&error))?;
    let (instructions, signature) = sign(signable, &parameters).map_err(|error| failed(&error))?.into_parts();
    let mut headers = vec![(CONTENT_TYPE, HeaderValue::from_static(FORM))];
    for (name, value) in instructions.headers() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| failed(&error))?;
        let mut value = HeaderValue::from_str(value).map_err(|error| failed(&error))?;
        value.set_sensitive(name == AUTHORIZATION || name == "x-amz-security-token");
        headers.push((name, value));
    }
    let mut secrets = vec![keys.secret.clone(), Secret::new(signature)];
    secrets.extend(keys.token.clone());
    Ok(Prepared { method: Method::POST, url, headers, body: Bytes::from(body), secrets })
}
