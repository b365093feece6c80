//! Signatures of requests, checked: version 1 (HMAC-SHA1 over the parameters) and version 3 (`ACS3-HMAC-SHA256` over the request).

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use sha2::{Digest, Sha256};

use super::account::Account;
use super::fault::Error;
use crate::cloud::server::Question;

/// Parameters that are there for the signature of version 1 alone.
pub(super) const PARAMETERS: [&str; 11] = [
    "AccessKeyId",
    "Action",
    "Format",
    "SecurityToken",
    "Signature",
    "SignatureMethod",
    "SignatureNonce",
    "SignatureType",
    "SignatureVersion",
    "Timestamp",
    "Version",
];

/// Checks a request's signature. Answers whose access key it was.
pub(super) fn check(question: &Question, account: &mut Account) -> Result<String, Error> {
    match question.header("authorization") {
        Some(authorization) => version_3(question, authorization, account),
        None => version_1(question, account),
    }
}

/// Percent-encoding of RFC 3986: only letters, digits and `-_.~` stay as they are.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing into a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// `a=1&b=2`, sorted and encoded.
fn canonical(parameters: impl IntoIterator<Item = (String, String)>) -> String {
    let mut pairs: Vec<(String, String)> = parameters.into_iter().collect();
    pairs.sort();
    let pairs = pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn mismatch(expected: &str) -> Error {
    let text = format!(
        "Specified signature is not matched with our calculation. server string to sign is:{expected}"
    );
    Error::new(400, "SignatureDoesNotMatch", &text)
}

fn missing(name: &str) -> Error {
    let text = format!(
        "The input parameter \"{name}\" that is mandatory for processing this request is not supplied."
    );
    Error::new(400, "MissingParameter", &text)
}

/// Hexadecimal digits.
pub(in crate::cloud) fn hex(bytes: impl AsRef<[u8]>) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn version_1(question: &Question, account: &mut Account) -> Result<String, Error> {
    let form = String::from_utf8_lossy(&question.body);
    let mut parameters: BTreeMap<String, String> =
        [question.query(), &form].into_iter().flat_map(Question::parameters).collect();
    let signature = parameters.remove("Signature").ok_or_else(|| missing("Signature"))?;
    let get = |name: &str| parameters.get(name).cloned().ok_or_else(|| missing(name));
    let (method, version) = (get("SignatureMethod")?, get("SignatureVersion")?);
    if method != "HMAC-SHA1" || version != "1.0" {
        let text = "The specified signature method is not supported.";
        return Err(Error::new(400, "InvalidSignatureMethod", text));
    }
    let (key, nonce, date) = (get("AccessKeyId")?, get("SignatureNonce")?, get("Timestamp")?);
    let secret = account.secret(&key, parameters.get("SecurityToken").map(String::as_str))?;
    let text = format!("{}&%2F&{}", question.method, encoded(&canonical(parameters)));
    let secret = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, format!("{secret}&").as_bytes());
    if BASE64_STANDARD.encode(hmac::sign(&secret, text.as_bytes())) != signature {
        return Err(mismatch(&text));
    }
    account.is_new(&nonce, &date)?;
    Ok(key)
}

fn version_3(question: &Question, authorization: &str, account: &mut Account) -> Result<String, Error> {
    let malformed = || {
        let text = "The request signature does not conform to Aliyun standards.";
        Error::new(400, "IncompleteSignature", text)
    };
    let fields = authorization.strip_prefix("ACS3-HMAC-SHA256 ").ok_or_else(malformed)?;
    let fields: BTreeMap<&str, &str> =
        fields.split(',').filter_map(|field| field.trim().split_once('=')).collect();
    let field = |name| fields.get(name).copied().ok_or_else(malformed);
    let (key, signed, signature) = (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
    let header = |name: &str| question.header(name).ok_or_else(|| missing(name));
    let (nonce, date) = (header("x-acs-signature-nonce")?, header("x-acs-date")?);
    let names: Vec<&str> = signed.split(';').collect();
    let must_be_signed = |name: &str| name == "host" || name.starts_with("x-acs-");
    if question.headers.iter().any(|(name, _)| must_be_signed(name) && !names.contains(&name.as_str())) {
        return Err(malformed());
    }
    let digest = hex(Sha256::digest(&question.body));
    if header("x-acs-content-sha256")? != digest {
        return Err(mismatch(&digest));
    }
    let mut text = format!("{}\n{}\n{}\n", question.method, question.path(), {
        canonical(Question::parameters(question.query()))
    });
    for name in &names {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{name}:{}", header(name)?);
    }
    let text = format!("{text}\n{signed}\n{digest}");
    let secret = account.secret(key, question.header("x-acs-security-token"))?;
    let to_sign = format!("ACS3-HMAC-SHA256\n{}", hex(Sha256::digest(text)));
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    if hex(hmac::sign(&secret, to_sign.as_bytes())) != signature {
        return Err(mismatch(&to_sign));
    }
    account.is_new(nonce, date)?;
    Ok(key.to_owned())
}
