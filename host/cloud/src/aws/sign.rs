//! Signature version 4, by Amazon's own crate: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    self, PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode,
};
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

/// A session's token.
const TOKEN: &str = "x-amz-security-token";
/// What signs as S3 does: names of services in signatures.
const S3: [&str; 4] = ["s3", "s3express", "s3-object-lambda", "s3-outposts"];

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

/// An action's request as it is sent.
pub(super) fn signed(url: Url, body: String, keys: &AccessKey, scope: &Scope) -> Result<Prepared, Failure> {
    let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(FORM))];
    let (body, secrets) = (Bytes::from(body), Vec::new());
    let mut prepared = Prepared { method: Method::POST, url, headers, body, secrets };
    sign(&mut prepared, keys, scope)?;
    Ok(prepared)
}

/// Signs a request: method, path, query and body, the type of the body, and headers of Amazon's own. The path has to be percent-encoded.
pub(super) fn sign(prepared: &mut Prepared, keys: &AccessKey, scope: &Scope) -> Result<(), Failure> {
    // What the crate says of its errors has nothing of the request in it.
    let failed = |error: &dyn std::error::Error| Failure::Invalid(format!("cannot be signed: {error}"));
    let token = keys.token.as_ref().map(|token| token.reveal().to_owned());
    let identity = Credentials::new(&keys.id, keys.secret.reveal(), token, None, "flanneld").into();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region(scope.region)
        .name(scope.service)
        .time(scope.time)
        .settings(settings(scope.service))
        .build()
        .map_err(|error| failed(&error))?
        .into();
    let Prepared { method, url, headers, body, .. } = &*prepared;
    let uri = format!("{}://{}{}", if url.secure { "https" } else { "http" }, url.authority(), url.path);
    let mut content = Vec::new();
    for (name, value) in headers.iter().filter(|(name, _)| is_signed(name)) {
        content.push((name.as_str(), value.to_str().map_err(|error| failed(&error))?));
    }
    let signable = SignableRequest::new(method.as_str(), uri, content.into_iter(), SignableBody::Bytes(body));
    let signable = signable.map_err(|error| failed(&error))?;
    let (instructions, signature) =
        http_request::sign(signable, &parameters).map_err(|error| failed(&error))?.into_parts();
    for (name, value) in instructions.headers() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| failed(&error))?;
        let mut value = HeaderValue::from_str(value).map_err(|error| failed(&error))?;
        value.set_sensitive(name == AUTHORIZATION || name == TOKEN);
        prepared.headers.push((name, value));
    }
    prepared.secrets.extend([keys.secret.clone(), Secret::new(signature)]);
    prepared.secrets.extend(keys.token.clone());
    Ok(())
}

/// Whether a header is signed: proxies may change the others.
fn is_signed(name: &HeaderName) -> bool {
    *name == CONTENT_TYPE || name.as_str().starts_with("x-amz-")
}

/// S3 takes the path as it comes, and wants the body's hash in a header; the others take the path encoded once more, and without `.`, `..`
/// and empty segments. <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>
fn settings(service: &str) -> SigningSettings {
    let mut settings = SigningSettings::default();
    if S3.contains(&service) {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    settings
}
