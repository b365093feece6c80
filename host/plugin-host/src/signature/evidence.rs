//! A signature with what it is of, as it was found: nothing of it is believed before it has been verified.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::public_key::PublicKey;
use super::signed_text;
use crate::digest::Digest;

/// What a signature has to be of: a file, or a manifest.
pub(crate) struct Subject<'a> {
    bytes: &'a [u8],
    digest: Digest,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, digest: Digest::of(bytes) }
    }
}

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Evidence {
    /// Of the subject itself.
    Plain {
        #[serde(with = "base64_text")]
        signature: Vec<u8>,
    },
    /// Of a "simple signing" text, which names the manifest.
    SimpleSigning {
        #[serde(with = "base64_text")]
        text: Vec<u8>,
        #[serde(with = "base64_text")]
        signature: Vec<u8>,
    },
    /// Of a DSSE envelope with an in-toto statement, which names the subject.
    Envelope {
        content_type: String,
        #[serde(with = "base64_text")]
        content: Vec<u8>,
        #[serde(with = "base64_text")]
        signature: Vec<u8>,
    },
}

impl Evidence {
    /// Whether it is a good signature by this key of exactly this subject.
    pub(crate) fn is_good(&self, key: &PublicKey, subject: &Subject) -> bool {
        // What strangers wrote is not looked into before it is known to be the signer's.
        key.has_signed(&self.message(subject), self.signature()) && self.is_of(subject)
    }

    fn message<'a>(&'a self, subject: &Subject<'a>) -> Cow<'a, [u8]> {
        match self {
            Self::Plain { .. } => Cow::Borrowed(subject.bytes),
            Self::SimpleSigning { text, .. } => Cow::Borrowed(text),
            Self::Envelope { content_type, content, .. } => {
                Cow::Owned(signed_text::envelope(content_type, content))
            }
        }
    }

    fn signature(&self) -> &[u8] {
        match self {
            Self::Plain { signature }
            | Self::SimpleSigning { signature, .. }
            | Self::Envelope { signature, .. } => signature,
        }
    }

    fn is_of(&self, subject: &Subject) -> bool {
        match self {
            Self::Plain { .. } => true,
            Self::SimpleSigning { text, .. } => signed_text::simple_signing_is_of(text, subject.digest),
            Self::Envelope { content_type, content, .. } => {
                content_type == signed_text::STATEMENT
                    && signed_text::statement_is_of(content, subject.digest)
            }
        }
    }
}

/// Bytes as base64 in JSON.
mod base64_text {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map_err(|_| D::Error::custom("no base64"))
    }
}
