//! What comes of a request to somebody outside: a cloud, or an endpoint of the operator's.

use std::fmt;

/// What came back, with whatever status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// HTTP's: 200, 403, …
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// At most 4 MiB.
    pub body: String,
    /// How often the request was sent.
    pub attempts: u32,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The request is not what its documentation asks for. Dooms the call.
    Invalid(String),
    /// Not granted, not allowed by the operator, or not called in `tick`. Dooms the call.
    Denied(String),
    /// The host has no credentials.
    Credentials(String),
    /// No whole response. The request may have been carried out.
    Unreachable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials(text) => write!(f, "no credentials: {text}"),
            Self::Invalid(text) | Self::Denied(text) | Self::Unreachable(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.to_string()
    }
}

/// Why there is nothing to go on with: what a policy makes of a response that says no, in the words `R` of its own, or whatever else has gone
/// wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError<R> {
    /// The other side says no.
    Refused(R),
    /// Everything else, for the operator: no response, or one that makes no sense.
    Failed(String),
}

impl<R: fmt::Display> fmt::Display for CallError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

impl<R: fmt::Debug + fmt::Display> std::error::Error for CallError<R> {}

impl<R: fmt::Display> From<CallError<R>> for String {
    fn from(error: CallError<R>) -> Self {
        error.to_string()
    }
}
