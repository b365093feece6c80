//! The texts that signatures of manifests are of: "simple signing" (cosign until version 2), and in-toto statements in DSSE envelopes
//! (cosign since version 3).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::digest::Digest;

/// The content type of an envelope's statement.
pub(super) const STATEMENT: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
/// What a statement has to say. By others a signer says that a test has run, or what a component was built of.
const IS_SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";
const SIMPLE_SIGNING_TYPE: &str = "cosign container image signature";

#[derive(Deserialize)]
struct SimpleSigning {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
    subject: Vec<StatementSubject>,
}

#[derive(Deserialize)]
struct StatementSubject {
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

/// The text to sign for a manifest in a repository.
pub(crate) fn simple_signing(repository: &str, manifest: Digest) -> Vec<u8> {
    serde_json::json!({
        "critical": {
            "identity": { "docker-reference": repository },
            "image": { "docker-manifest-digest": manifest.to_string() },
            "type": SIMPLE_SIGNING_TYPE,
        },
        "optional": null,
    })
    .to_string()
    .into_bytes()
}

/// Whether the text says that this manifest is signed. In which repository it was signed does not matter: the digest says which it is.
pub(super) fn simple_signing_is_of(text: &[u8], manifest: Digest) -> bool {
    serde_json::from_slice(text).is_ok_and(|SimpleSigning { critical }| {
        critical.kind == SIMPLE_SIGNING_TYPE && critical.image.docker_manifest_digest == manifest.to_string()
    })
}

/// Whether the statement says that this subject is signed.
pub(super) fn statement_is_of(text: &[u8], subject: Digest) -> bool {
    serde_json::from_slice(text).is_ok_and(|statement: Statement| {
        STATEMENT_TYPES.contains(&statement.kind.as_str())
            && statement.predicate_type == IS_SIGNED
            && statement.subject.iter().any(|one| one.digest.get("sha256") == Some(&subject.hex()))
    })
}

/// What a DSSE envelope's signature is of: its "pre-authentication encoding".
pub(super) fn envelope(content_type: &str, content: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {content_type} {} ", content_type.len(), content.len()).into_bytes();
    message.extend_from_slice(content);
    message
}
