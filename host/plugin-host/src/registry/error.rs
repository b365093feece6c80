//! Why a plugin does not come from its registry.

use std::path::PathBuf;
use std::time::Duration;

use flannel_cloud::http::HttpError;

use crate::digest::Digest;
use crate::signature::NoRandomness;

/// What went wrong: one line, without anything that the registry wrote but names of media types, and without credentials.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no answer, or not to the end.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// All of it takes too long.
    #[error("{registry} is too slow: not done after {} s", time.as_secs())]
    TooSlow {
        /// The registry.
        registry: String,
        /// How long it had.
        time: Duration,
    },
    /// The registry answers, and not with what was asked for.
    #[error("{url}: the registry answers {status}{}", hint(*status))]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: hyper::StatusCode,
    },
    /// The registry wants to know who we are.
    #[error("{url}: the registry demands credentials, and {place}")]
    NoCredentials {
        /// What was asked for.
        url: String,
        /// Where there are none.
        place: String,
    },
    /// The registry does not like our credentials.
    #[error("{url}: the registry refuses the credentials from {}", file.display())]
    CredentialsRefused {
        /// What was asked for.
        url: String,
        /// Where they are from.
        file: PathBuf,
    },
    /// Docker's config file is wrong.
    #[error("credentials in {}: {reason}", file.display())]
    CredentialsFile {
        /// The file.
        file: PathBuf,
        /// What is wrong, without any of its content.
        reason: String,
    },
    /// The registry does not keep to the protocol.
    #[error("{url}: {what}")]
    Protocol {
        /// What was asked for.
        url: String,
        /// What it does.
        what: String,
    },
    /// What came is something else.
    #[error("the {what} should have {wanted}, and what the registry sent has {found}")]
    WrongDigest {
        /// Manifest or component.
        what: &'static str,
        /// As it was asked for.
        wanted: Digest,
        /// As it came.
        found: Digest,
    },
    /// Less comes than was announced.
    #[error("the component should have {wanted} bytes, and the registry sent {found}")]
    TooSmall {
        /// As the manifest says.
        wanted: usize,
        /// As it came.
        found: usize,
    },
    /// The manifest is not that of a component.
    #[error("the manifest is not that of a WebAssembly component: {0}")]
    Manifest(String),
    /// What is below the tag for signatures is something else.
    #[error("below the tag {tag} is something other than signatures: nothing is added to it")]
    Signatures {
        /// Cosign's tag for the signatures.
        tag: String,
    },
    /// Nothing can be signed.
    #[error(transparent)]
    NotSigned(#[from] NoRandomness),
    /// A push to what cannot be pushed to.
    #[error("a component is pushed to a tag: oci://REGISTRY[:PORT]/REPOSITORY:TAG")]
    NoTag,
}

impl RegistryError {
    /// Whether it is about who we are.
    pub(super) fn is_about_credentials(&self) -> bool {
        matches!(
            self,
            Self::NoCredentials { .. } | Self::CredentialsRefused { .. } | Self::CredentialsFile { .. }
        )
    }

    /// Whether the registry is away, rather than there and of another opinion.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Http(HttpError::Interrupted { .. } | HttpError::ConnectFailed { .. })
            | Self::TooSlow { .. } => true,
            Self::Status { status, .. } => status.is_server_error() || status.as_u16() == 429,
            _ => false,
        }
    }
}

fn hint(status: hyper::StatusCode) -> &'static str {
    match status.as_u16() {
        404 => ": there is no such repository, tag or digest",
        _ => "",
    }
}
