//! Signatures of requests (Signature Version 4), checked: moto does not look at them.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::time::{Duration, SystemTime};

use ring::hmac;
use sha2::{Digest, Sha256};
use time::{Date, Month, PrimitiveDateTime, Time};

use super::credentials::{Credentials, Key};
use super::fault::Refusal;
use crate::cloud::server::Question;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far a request's clock may be off.
const TOLERANCE: Duration = Duration::from_mins(15);

/// Checks a request's signature. Answers who signed.
pub(super) fn check(question: &Question, region: &str, known: &Credentials) -> Result<String, Refusal> {
    let authorization = question.header("authorization").ok_or_else(|| {
        Refusal::new(403, "MissingAuthenticationToken", "The request is missing an authentication token")
    })?;
    let parts = Parts::read(authorization).ok_or_else(incomplete)?;
    let [id, date, in_region, service, end] = parts.credential[..] else { return Err(incomplete()) };
    let moment = question.header("x-amz-date").ok_or_else(incomplete)?;
    if (in_region, service, end) != (region, "ec2", "aws4_request") || !moment.starts_with(date) {
        let text = format!("Credential should be scoped to {date}/{region}/ec2/aws4_request.");
        return Err(Refusal::new(403, "SignatureDoesNotMatch", text));
    }
    let time = read_time(moment).ok_or_else(incomplete)?;
    let key = known.find(id).ok_or_else(unknown)?;
    if question.header("x-amz-security-token") != key.token.as_deref() {
        return Err(unknown());
    }
    let has_token = question.header("x-amz-security-token").is_some();
    let must = ["host", "x-amz-date", "x-amz-security-token"];
    if must.iter().take(if has_token { 3 } else { 2 }).any(|name| !parts.signed.contains(name)) {
        return Err(incomplete());
    }
    let scope = parts.credential[1..].join("/");
    let text = format!("{ALGORITHM}\n{moment}\n{scope}\n{}", hash(canonical(question, &parts.signed)));
    if parts.signature != hex(signed(key, &parts.credential[1..], &text)) {
        let text = "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
                    Access Key and signing method. Consult the service documentation for details.";
        return Err(Refusal::new(403, "SignatureDoesNotMatch", text));
    }
    let now = SystemTime::now();
    let apart = now.duration_since(time).or_else(|_| time.duration_since(now)).unwrap_or_default();
    if apart > TOLERANCE {
        return Err(Refusal::new(400, "RequestExpired", "Request has expired."));
    }
    if key.ends.is_some_and(|end| end <= now) {
        let (status, code) = known.over;
        let text = match code {
            "AuthFailure" => "AWS was not able to validate the provided access credentials",
            "ExpiredToken" => "The provided token has expired.",
            _ => "Request has expired.",
        };
        return Err(Refusal::new(status, code, text));
    }
    Ok(key.arn.clone())
}

fn unknown() -> Refusal {
    Refusal::new(401, "AuthFailure", "AWS was not able to validate the provided access credentials")
}

fn incomplete() -> Refusal {
    let text = "Authorization header requires 'Credential', 'Signature' and 'SignedHeaders', with a signed Host and X-Amz-Date.";
    Refusal::new(400, "IncompleteSignature", text)
}

/// What the header `Authorization` says.
struct Parts<'a> {
    /// Key id, date, region, service, and the fixed end.
    credential: Vec<&'a str>,
    signed: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn read(authorization: &'a str) -> Option<Self> {
        let rest = authorization.strip_prefix(ALGORITHM)?;
        let get = |name: &str| {
            let mut pairs = rest.split(',').filter_map(|pair| pair.trim().split_once('='));
            pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        Some(Self {
            credential: get("Credential")?.split('/').collect(),
            signed: get("SignedHeaders")?.split(';').collect(),
            signature: get("Signature")?,
        })
    }
}

fn canonical(question: &Question, signed: &[&str]) -> String {
    let mut query: Vec<&str> = question.query().split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    let mut text = format!("{}\n{}\n{}\n", question.method, question.path(), query.join("&"));
    for name in signed {
        let value: Vec<&str> = question.header(name).unwrap_or_default().split_whitespace().collect();
        text.extend([name, ":", &value.join(" "), "\n"]);
    }
    text + &format!("\n{}\n{}", signed.join(";"), hash(&question.body))
}

fn signed(key: &Key, scope: &[&str], text: &str) -> Vec<u8> {
    let first = format!("AWS4{}", key.secret).into_bytes();
    scope.iter().chain([&text]).fold(first, |key, part| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec()
    })
}

fn hash(bytes: impl AsRef<[u8]>) -> String {
    hex(Sha256::digest(bytes))
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    let digits = bytes.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// `20261125T165300Z`
fn read_time(text: &str) -> Option<SystemTime> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u8>().ok();
    let month = Month::try_from(number(4, 6)?).ok()?;
    let date = Date::from_calendar_date(text.get(..4)?.parse().ok()?, month, number(6, 8)?).ok()?;
    let time = Time::from_hms(number(9, 11)?, number(11, 13)?, number(13, 15)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().into())
}
