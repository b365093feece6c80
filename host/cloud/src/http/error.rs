//! Why there is no answer.

/// What went wrong: one line, without anything that the other side wrote.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum HttpError {
    /// Nobody can be connected to: nothing was sent.
    #[error("{url}: cannot be connected to: {reason}")]
    ConnectFailed {
        /// What was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// Nobody answers, or not to the end.
    #[error("{url}: {reason}")]
    Interrupted {
        /// What was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// It cannot be asked for.
    #[error("{url}: cannot be asked for")]
    BadUrl {
        /// What should have been asked for.
        url: String,
    },
    /// More comes than is allowed.
    #[error("{url}: the {what} is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// What the body is.
        what: &'static str,
        /// The most that it may be.
        limit: usize,
    },
    /// There are no certificate authorities to trust.
    #[error("no certificate authorities: {0}")]
    Authorities(String),
}
