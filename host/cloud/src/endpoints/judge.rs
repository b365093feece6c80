//! What answers mean, by HTTP's own words (RFC 9110, RFC 6585): whose API it is nobody knows here.

use std::time::{Duration, SystemTime};

use crate::{Answer, ResponseClass};

pub(super) fn verdict(answer: &Answer, now: SystemTime) -> ResponseClass {
    let retry_after = retry_after(answer, now);
    match answer.status {
        429 => ResponseClass::Throttled(retry_after),
        503 if retry_after.is_some() => ResponseClass::Throttled(retry_after),
        408 | 500.. => ResponseClass::Failed,
        _ => ResponseClass::Final,
    }
}

/// Seconds, or a date.
fn retry_after(answer: &Answer, now: SystemTime) -> Option<Duration> {
    let (_, value) = answer.headers.iter().find(|(name, _)| name == "retry-after")?;
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>) -> Answer {
        let headers = retry_after.map(|value| ("retry-after".to_owned(), value.to_owned()));
        Answer { status, headers: headers.into_iter().collect(), ..Answer::default() }
    }

    #[test]
    fn what_was_turned_away_is_told_from_what_has_failed_and_from_what_is_final() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let after = |seconds| ResponseClass::Throttled(Some(Duration::from_secs(seconds)));
        for (status, retry, class) in [
            (200, None, ResponseClass::Final),
            (302, None, ResponseClass::Final),
            (401, None, ResponseClass::Final),
            (403, None, ResponseClass::Final),
            (422, Some("1"), ResponseClass::Final),
            (429, None, ResponseClass::Throttled(None)),
            (429, Some("7"), after(7)),
            (429, Some("Sun, 06 Nov 1994 08:49:40 GMT"), after(3)),
            (429, Some("Sun, 06 Nov 1994 08:49:30 GMT"), after(0)),
            (429, Some("soon"), ResponseClass::Throttled(None)),
            (429, Some("-1"), ResponseClass::Throttled(None)),
            (503, None, ResponseClass::Failed),
            (503, Some("2"), after(2)),
            (500, Some("2"), ResponseClass::Failed),
        ] {
            assert_eq!(verdict(&answer(status, retry), now), class, "{status} {retry:?}");
        }
    }
}
