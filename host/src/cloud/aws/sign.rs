//! Signature version 4 of a query API's form: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>.

use std::time::SystemTime;

use aws_credential_types::Credentials as Identity;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use super::credentials::Keys;
use crate::cloud::redact::percent;
use crate::cloud::request::Failure;
use crate::cloud::secret::Secret;
use crate::cloud::vendor::Prepared;
use crate::http::Url;

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");

/// What a signature is good for.
pub(super) struct Scope<'a> {
    pub region: &'a str,
    pub service: &'a str,
    pub time: SystemTime,
}

/// The body of a call.
pub(super) fn form(action: &str, version: &str, parameters: &[(String, String)]) -> String {
    let own = [("Action", action), ("Version", version)].into_iter();
    let all = own.chain(parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let pairs: Vec<String> =
        all.map(|(name, value)| format!("{}={}", percent(name), percent(value))).collect();
    pairs.join("&")
}

/// A call that is ready to be sent.
pub(super) fn signed(url: Url, body: String, keys: &Keys, scope: &Scope) -> Result<Prepared, Failure> {
    let failed = |what: &str| Failure::Credentials(format!("the request cannot be signed: {what}"));
    let token = keys.token.as_ref().map(|token| token.reveal().to_owned());
    let identity = Identity::new(&keys.id, keys.secret.reveal(), token, None, "flanneld").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(scope.region)
        .name(scope.service)
        .time(scope.time)
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| failed("something is missing"))?
        .into();
    let scheme = if url.secure { "https" } else { "http" };
    let uri = format!("{scheme}://{}{}", url.authority(), url.path);
    let form = FORM;
    let content_type = form.to_str().map_err(|_| failed("a header's value"))?;
    let authority = url.authority();
    let headers = [("content-type", content_type), ("host", authority.as_str())].into_iter();
    let request = SignableRequest::new("POST", uri, headers, SignableBody::Bytes(body.as_bytes()))
        .map_err(|_| failed("the endpoint is no URL"))?;
    // The error may have the request in it.
    let (instructions, _) = sign(request, &params).map_err(|_| failed("the signer refuses it"))?.into_parts();
    let mut headers = vec![(CONTENT_TYPE, FORM)];
    for (name, value) in instructions.headers() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| failed("a header's name"))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| failed("a header's value"))?;
        value.set_sensitive(true);
        headers.push((name, value));
    }
    let authorization = headers.iter().find(|(name, _)| name == hyper::header::AUTHORIZATION);
    let mut secrets = vec![keys.secret.clone()];
    secrets.extend(keys.token.clone());
    secrets.extend(authorization.and_then(|(_, value)| Some(Secret::new(value.to_str().ok()?.to_owned()))));
    Ok(Prepared { method: Method::POST, url, headers, body: Bytes::from(body), secrets })
}
