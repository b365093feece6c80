//! Sigstore's bundles, version 0.3 and before, as far as signatures by keys need them: certificates, time stamps and transparency logs
//! are passed over.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::evidence::Evidence;

/// Signatures of one envelope.
const MAX_SIGNATURES: usize = 8;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    message_signature: Option<MessageSignature>,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
struct MessageSignature {
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

/// Whether a media type is that of bundles.
pub(crate) fn is_media_type(text: &str) -> bool {
    text.starts_with("application/vnd.dev.sigstore.bundle")
}

/// The signatures in a bundle; none: it is no bundle.
pub(crate) fn read(bytes: &[u8]) -> Option<Vec<Evidence>> {
    let bundle: Bundle = serde_json::from_slice(bytes).ok()?;
    if !is_media_type(&bundle.media_type) {
        return None;
    }
    let decode = |text: &str| BASE64_STANDARD.decode(text).ok();
    if let Some(message) = bundle.message_signature {
        return Some(vec![Evidence::Plain { signature: decode(&message.signature)? }]);
    }
    let envelope = bundle.dsse_envelope?;
    let content = decode(&envelope.payload)?;
    let signatures = envelope.signatures.iter().take(MAX_SIGNATURES);
    signatures
        .map(|one| {
            Some(Evidence::Envelope {
                content_type: envelope.payload_type.clone(),
                content: content.clone(),
                signature: decode(&one.sig)?,
            })
        })
        .collect()
}
