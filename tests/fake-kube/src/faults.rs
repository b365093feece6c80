//! What goes wrong on demand.

use std::time::Duration;

/// Something that goes wrong with some requests.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Concerns requests that have this in their line: `METHOD URI`.
    pub of: String,
    /// So often; then the request is answered as if nothing had been.
    pub times: usize,
    /// What happens.
    pub kind: Kind,
}

/// What happens instead of an answer, or with it.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A status, with a message.
    Status {
        /// Its code.
        code: u16,
        /// Its words.
        message: String,
        /// `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// A watch that begins with an ERROR event.
    ErrorEvent {
        /// The status's code.
        code: u16,
        /// Its words.
        message: String,
    },
    /// A status 200 with these bytes.
    Body(String),
    /// The answer breaks off in the middle.
    Cut,
    /// The answer stops in the middle and does not end.
    Stop,
    /// No answer.
    Silence,
    /// A pause before each piece of the answer.
    Slow(Duration),
}

impl Fault {
    /// A status for requests with this in their line, so often.
    pub fn status(of: &str, times: usize, code: u16) -> Self {
        Self::of(of, times, Kind::Status { code, message: format!("a fault: {code}"), retry_after: None })
    }

    /// Something for requests with this in their line, so often.
    pub fn of(of: &str, times: usize, kind: Kind) -> Self {
        Self { of: of.to_owned(), times, kind }
    }
}
