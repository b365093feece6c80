//! What answers mean for the one who sends requests. Codes: <https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html>.

use std::time::Duration;

use super::xml::element;
use crate::request::Answer;
use crate::vendor::ResponseClass;

/// Too many requests: what Amazon's own libraries look for.
const THROTTLED: [&str; 8] = [
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "EC2ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
];
/// Other credentials might not meet these.
const CREDENTIALS: [&str; 7] = [
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "RequestExpired",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
];

pub(super) fn verdict(answer: &Answer) -> ResponseClass {
    if answer.status < 400 {
        return ResponseClass::Final;
    }
    let code = element(&answer.body, "Code").unwrap_or_default();
    if answer.status == 429 || THROTTLED.contains(&code) {
        let header = answer.headers.iter().find(|(name, _)| name == "retry-after");
        return ResponseClass::Throttled(
            header.and_then(|(_, value)| value.trim().parse().ok()).map(Duration::from_secs),
        );
    }
    match answer.status {
        _ if CREDENTIALS.contains(&code) => ResponseClass::CredentialsRefused,
        500.. => ResponseClass::Failed,
        _ => ResponseClass::Final,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(status: u16, code: &str) -> ResponseClass {
        let body = format!(
            "<?xml version=\"1.0\"?>\n<Response><Errors><Error><Code>{code}</Code><Message>m</Message></Error></Errors></Response>"
        );
        verdict(&Answer { status, body, ..Answer::default() })
    }

    #[test]
    fn requests_that_are_too_many_come_again_whatever_the_status() {
        assert_eq!(classified(503, "RequestLimitExceeded"), ResponseClass::Throttled(None));
        assert_eq!(classified(400, "Throttling"), ResponseClass::Throttled(None));
        let headers = vec![("retry-after".to_owned(), "3".to_owned())];
        let answer = Answer { status: 429, headers, ..Answer::default() };
        assert_eq!(verdict(&answer), ResponseClass::Throttled(Some(Duration::from_secs(3))));
    }

    #[test]
    fn credentials_that_are_too_old_are_told_from_permissions_that_are_missing() {
        for code in ["ExpiredToken", "RequestExpired", "AuthFailure"] {
            assert_eq!(classified(400, code), ResponseClass::CredentialsRefused, "{code}");
        }
        assert_eq!(classified(403, "UnauthorizedOperation"), ResponseClass::Final);
    }

    #[test]
    fn the_clouds_own_failures_are_told_from_ours() {
        assert_eq!(classified(500, "InternalError"), ResponseClass::Failed);
        assert_eq!(classified(503, "Unavailable"), ResponseClass::Failed);
        assert_eq!(classified(400, "RouteLimitExceeded"), ResponseClass::Final);
        assert_eq!(classified(200, "RequestLimitExceeded"), ResponseClass::Final);
    }
}
