//! Signatures of requests (`TC3-HMAC-SHA256`), checked: <https://www.tencentcloud.com/document/api/213/33224>.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::SystemTime;

use ring::hmac;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::state::{Error, State, error};
use crate::cloud::alibaba::signature::hex;
use crate::cloud::server::Question;

const ALGORITHM: &str = "TC3-HMAC-SHA256";
/// Seconds that the caller's clock may be off.
const SKEW: u64 = 5 * 60;

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// Checks a request's signature. Answers whose key it was.
pub(super) fn check(question: &Question, state: &State) -> Result<String, Error> {
    let malformed = || error("AuthFailure.InvalidAuthorization", "The Authorization header is not valid.");
    let missing =
        |name: &str| error("MissingParameter", format!("The request is missing the header {name}."));
    let header = |name: &str| question.header(name).ok_or_else(|| missing(name));
    let fields = header("authorization")?.strip_prefix(ALGORITHM).ok_or_else(malformed)?;
    let fields: BTreeMap<&str, &str> =
        fields.split(',').filter_map(|field| field.trim().split_once('=')).collect();
    let field = |name| fields.get(name).copied().ok_or_else(malformed);
    let (key, scope) = field("Credential")?.split_once('/').ok_or_else(malformed)?;
    let (signed, signature) = (field("SignedHeaders")?, field("Signature")?);
    let timestamp = header("x-tc-timestamp")?;
    let seconds: u64 = timestamp.parse().map_err(|_| malformed())?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    if now.abs_diff(seconds) > SKEW {
        let text = "The signature is expired: the timestamp differs from the server's time by more than five minutes.";
        return Err(error("AuthFailure.SignatureExpire", text));
    }
    let date =
        i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let date = date.ok_or_else(malformed)?.date().to_string();
    if scope != format!("{date}/vpc/tc3_request") {
        return Err(error(
            "AuthFailure.SignatureFailure",
            "The credential scope is not that of the request.",
        ));
    }
    let names: Vec<&str> = signed.split(';').collect();
    if !names.is_sorted() || !["content-type", "host"].iter().all(|name| names.contains(name)) {
        return Err(malformed());
    }
    let mut text = format!("{}\n{}\n{}\n", question.method, question.path(), question.query());
    for name in &names {
        let value = header(name)?;
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "{name}:{}",
            if *name == "host" { value.to_owned() } else { value.to_lowercase() }
        );
    }
    let _ = write!(text, "\n{signed}\n{}", hex(Sha256::digest(&question.body)));
    let secret = state.secret(key, question.header("x-tc-token"))?;
    let to_sign = format!("{ALGORITHM}\n{timestamp}\n{scope}\n{}", hex(Sha256::digest(text)));
    let derived = [date.as_str(), "vpc", "tc3_request"]
        .into_iter()
        .fold(format!("TC3{secret}").into_bytes(), |key, part| sign(&key, part));
    if hex(sign(&derived, &to_sign)) != signature {
        let text = "The provided credentials could not be validated. Please check your signature is correct.";
        return Err(error("AuthFailure.SignatureFailure", text));
    }
    Ok(key.to_owned())
}
