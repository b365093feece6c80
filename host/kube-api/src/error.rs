//! What may go wrong with a request.

use std::time::Duration;

use crate::connection::ConnectionError;

/// Why there is no answer, or not the wanted one. The server's words are in it where they help an operator, shortened.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KubeError {
    /// 401, though the credentials have been read again.
    #[error("the API server does not accept the credentials: {message}")]
    Unauthorized {
        /// The server's words.
        message: String,
    },
    /// 403: a rule is missing.
    #[error("not allowed to {verb} {resource}: {message}")]
    Forbidden {
        /// As rules have it: `get`, `list`, `watch`, `patch`.
        verb: &'static str,
        /// As rules have it: `nodes`, `nodes/status`, `pods`.
        resource: &'static str,
        /// The server's words, which name the user.
        message: String,
    },
    /// 404.
    #[error("not found: {message}")]
    NotFound {
        /// The server's words.
        message: String,
    },
    /// 406: the server does not know the form that was asked for.
    #[error("the API server does not know this form of answer: {message}")]
    NotAcceptable {
        /// The server's words.
        message: String,
    },
    /// 409.
    #[error("somebody else was faster: {message}")]
    Conflict {
        /// The server's words.
        message: String,
    },
    /// 410, as a status or as an event: the version is too old, or a list was read for too long.
    #[error("the API server no longer has that version: {message}")]
    Gone {
        /// The server's words.
        message: String,
    },
    /// 422.
    #[error("the API server refuses that: {message}")]
    Invalid {
        /// The server's words.
        message: String,
    },
    /// 429.
    #[error("the API server asks for patience: {message}")]
    TooManyRequests {
        /// How long it asks to wait.
        retry_after: Option<Duration>,
        /// The server's words.
        message: String,
    },
    /// 5xx.
    #[error("the API server has failed ({status}): {message}")]
    Server {
        /// The status.
        status: u16,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
        /// The server's words.
        message: String,
    },
    /// Any other status.
    #[error("the API server answers {status}: {message}")]
    Unexpected {
        /// The status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// Nobody answers there, or not to the end.
    #[error("{address}: {reason}")]
    Unreachable {
        /// The server's URL.
        address: String,
        /// What happened.
        reason: String,
    },
    /// An answer that makes no sense.
    #[error("the API server's answer makes no sense: {reason}")]
    Malformed {
        /// What is wrong with it, without its contents.
        reason: String,
    },
    /// There is nobody to ask, or nothing to ask with.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

impl KubeError {
    /// How long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { retry_after, .. } | Self::Server { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Which kind it is, for the label of a metric.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unauthorized { .. } => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::NotFound { .. } => "not-found",
            Self::NotAcceptable { .. } => "not-acceptable",
            Self::Conflict { .. } => "conflict",
            Self::Gone { .. } => "gone",
            Self::Invalid { .. } => "invalid",
            Self::TooManyRequests { .. } => "too-many-requests",
            Self::Server { .. } => "server",
            Self::Unexpected { .. } => "unexpected",
            Self::Unreachable { .. } => "unreachable",
            Self::Malformed { .. } => "malformed",
            Self::Connection(_) => "credentials",
        }
    }
}
