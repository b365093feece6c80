//! What Google's answers mean for the one who sends requests.

use std::time::Duration;

use serde::Deserialize;

use crate::request::Answer;
use crate::vendor::ResponseClass;

/// Reasons with which Compute Engine says, by status 403, that there were too many requests.
const TOO_MANY: [&str; 2] = ["rateLimitExceeded", "userRateLimitExceeded"];

#[derive(Deserialize)]
struct Body {
    error: Error,
}

#[derive(Deserialize)]
struct Error {
    #[serde(default)]
    errors: Vec<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(default)]
    reason: String,
}

pub(super) fn verdict(answer: &Answer) -> ResponseClass {
    match answer.status {
        401 => ResponseClass::CredentialsRefused,
        429 => ResponseClass::Throttled(retry_after(answer)),
        403 if is_about_the_rate(answer) => ResponseClass::Throttled(retry_after(answer)),
        408 | 500.. => ResponseClass::Failed,
        _ => ResponseClass::Final,
    }
}

fn is_about_the_rate(answer: &Answer) -> bool {
    let body: Option<Body> = serde_json::from_str(&answer.body).ok();
    body.is_some_and(|body| body.error.errors.iter().any(|one| TOO_MANY.contains(&one.reason.as_str())))
}

/// Seconds; Google does not write dates there.
fn retry_after(answer: &Answer) -> Option<Duration> {
    let (_, value) = answer.headers.iter().find(|(name, _)| name == "retry-after")?;
    value.trim().parse().ok().map(Duration::from_secs)
}
