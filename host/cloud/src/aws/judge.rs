//! What answers mean for the one who sends requests. Codes: <https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html>.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;

use super::xml::element;
use crate::request::Answer;
use crate::vendor::ResponseClass;

/// Too many requests: what Amazon's own libraries look for.
const THROTTLED: [&str; 9] = [
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "EC2ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
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
    if let Some(class) = of_code(answer) {
        return class;
    }
    match answer.status {
        429 => ResponseClass::Throttled(retry_after(answer)),
        500.. => ResponseClass::Failed,
        _ => ResponseClass::Final,
    }
}

/// What an error's code means, whichever service it is of; none: nothing that is the same everywhere.
pub(super) fn of_code(answer: &Answer) -> Option<ResponseClass> {
    let code = if answer.status < 400 { None } else { code(answer) }?;
    if THROTTLED.contains(&&*code) {
        return Some(ResponseClass::Throttled(retry_after(answer)));
    }
    CREDENTIALS.contains(&&*code).then_some(ResponseClass::CredentialsRefused)
}

fn retry_after(answer: &Answer) -> Option<Duration> {
    let seconds = header(answer, "retry-after")?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// An error's code: an element of XML, a header (`ThrottlingException:http://…`), or a member of JSON (`com.amazonaws.x#ThrottlingException`).
/// <https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html#operation-error-serialization>
fn code(answer: &Answer) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(rename = "__type")]
        kind: Option<String>,
        code: Option<String>,
    }
    if let Some(code) = element(&answer.body, "Code") {
        return Some(code.into());
    }
    if let Some(text) = header(answer, "x-amzn-errortype") {
        return Some(shape(text).into());
    }
    let Refusal { kind, code } = serde_json::from_str(&answer.body).ok()?;
    kind.or(code).map(|text| shape(&text).to_owned().into())
}

fn shape(text: &str) -> &str {
    let text = text.split(':').next().unwrap_or_default();
    text.rsplit('#').next().unwrap_or_default().trim()
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
    fn a_code_is_found_in_xml_in_a_header_and_in_json() {
        let answer = |header: Option<&str>, body: &str| {
            let headers = header.map(|text| ("x-amzn-errortype".to_owned(), text.to_owned()));
            Answer {
                status: 403,
                headers: headers.into_iter().collect(),
                body: body.to_owned(),
                ..Answer::default()
            }
        };
        for (header, body) in [
            (None, "<Error><Code>ExpiredToken</Code></Error>"),
            (Some("ExpiredTokenException"), "{\"message\":\"The security token is expired\"}"),
            (Some("ExpiredTokenException:http://internal.amazon.com/"), ""),
            (None, "{\"__type\":\"com.amazon.coral.service#ExpiredTokenException\"}"),
            (None, "{\"code\":\"ExpiredTokenException\"}"),
        ] {
            let class = of_code(&answer(header, body));
            assert_eq!(class, Some(ResponseClass::CredentialsRefused), "{header:?} {body}");
        }
        for (header, body) in [
            (None, ""),
            (None, "{\"code\":403}"),
            (Some("AccessDeniedException"), "{\"code\":\"ExpiredTokenException\"}"),
        ] {
            assert_eq!(of_code(&answer(header, body)), None, "{header:?} {body}");
        }
    }

    #[test]
    fn the_clouds_own_failures_are_told_from_ours() {
        assert_eq!(classified(500, "InternalError"), ResponseClass::Failed);
        assert_eq!(classified(503, "Unavailable"), ResponseClass::Failed);
        assert_eq!(classified(400, "RouteLimitExceeded"), ResponseClass::Final);
        assert_eq!(classified(200, "RequestLimitExceeded"), ResponseClass::Final);
    }
}
