//! `Status`, which the API server answers instead of what was asked for, as a body or as an event.

use std::time::Duration;

use flannel_base::text::beginning;
use serde::Deserialize;

use crate::error::KubeError;
use crate::request::Purpose;

/// Characters of the server's words.
const WORDS: usize = 400;
/// No wait is longer, whoever asks for it.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// As far as it is looked at.
#[derive(Default, Deserialize)]
pub(crate) struct Status {
    #[serde(default)]
    pub(crate) code: u16,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default, rename = "retryAfterSeconds")]
    retry_after_seconds: u64,
}

impl Status {
    /// Of a body that may be anything, say a proxy's page.
    pub(crate) fn of_body(code: u16, body: &[u8]) -> Self {
        let read = serde_json::from_slice::<Self>(body).ok().filter(|status| !status.message.is_empty());
        let message = || String::from_utf8_lossy(body).into_owned();
        let read = read.unwrap_or_else(|| Self { message: message(), ..Self::default() });
        Self { code, ..read }
    }

    /// The error that it says. `header`: what `Retry-After` said, which counts before what the status says.
    pub(crate) fn into_error(self, purpose: Purpose, header: Option<Duration>) -> KubeError {
        let said = self.details.map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0);
        let retry_after = header.or(said.map(Duration::from_secs)).map(|wait| wait.min(LONGEST_WAIT));
        let message = beginning(self.message.trim(), WORDS);
        match self.code {
            401 => KubeError::Unauthorized { message },
            403 => KubeError::Forbidden { verb: purpose.verb, resource: purpose.resource, message },
            404 => KubeError::NotFound { message },
            406 => KubeError::NotAcceptable { message },
            409 => KubeError::Conflict { message },
            410 => KubeError::Gone { message },
            422 => KubeError::Invalid { message },
            429 => KubeError::TooManyRequests { retry_after, message },
            status @ 500..=599 => KubeError::Server { status, retry_after, message },
            status => KubeError::Unexpected { status, message },
        }
    }
}

/// `Retry-After` in seconds; the API server sends no dates.
pub(crate) fn retry_after(headers: &hyper::HeaderMap) -> Option<Duration> {
    let text = headers.get(hyper::header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}
