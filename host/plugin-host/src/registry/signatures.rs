//! Signatures in registries: below cosign's tag `sha256-….sig`, and as referrers of the manifest (OCI 1.1, by the API or by the tag
//! `sha256-…`). Whatever is there may be a stranger's: sizes and numbers are bounded, and what is not understood is passed over.

use std::collections::{BTreeMap, HashMap, HashSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Deserialize;
use tracing::debug;

use super::client::Client;
use super::error::RegistryError;
use super::manifest::MANIFEST;
use crate::digest::Digest;
use crate::reference::Version;
use crate::signature::{Evidence, PrivateKey, PublicKey, Subject, is_bundle, read_bundle, simple_signing};

/// Signatures that are looked at.
pub(super) const MAX_SIGNATURES: usize = 32;
/// Texts that are asked for: a signature whose text is missing or another one is none, and yet costs a question.
const MAX_TEXTS: usize = 48;
/// Referrers that are looked at.
const MAX_REFERRERS: usize = 16;
/// Bytes of the largest manifest of signatures, and of the largest list of referrers.
const LARGEST_LIST: usize = 1 << 20;
/// Bytes of the largest text that is signed, and of the largest bundle.
const LARGEST_TEXT: usize = 64 << 10;
const INDEX: HeaderValue = HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
const IMAGE: HeaderValue = HeaderValue::from_static(MANIFEST);
const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The config of manifests that need none.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// What manifests of such signatures are called among referrers.
const ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// The annotation of a layer with a signature of it.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// A manifest of signatures. Each layer is a text that is signed, or a bundle.
#[derive(Deserialize)]
struct Signatures {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// A list of manifests.
#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Referrer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referrer {
    digest: String,
    #[serde(default)]
    artifact_type: String,
}

/// What a registry has of signatures.
#[derive(Default)]
pub(super) struct Found {
    pub evidence: Vec<Evidence>,
    /// Why there may be more.
    pub trouble: Option<RegistryError>,
}

/// Cosign's tag for the signatures of a manifest.
fn tag(manifest: Digest) -> String {
    format!("sha256-{}.sig", manifest.hex())
}

/// Fetches the signatures of a manifest.
pub(super) async fn fetch(client: &mut Client<'_>, manifest: Digest) -> Found {
    let mut search = Search { client, texts: HashMap::new(), found: Found::default() };
    if let Err(error) = search.everywhere(manifest).await {
        search.found.trouble = Some(error);
    }
    search.found
}

struct Search<'a, 'b> {
    client: &'a mut Client<'b>,
    /// Blobs by their digests: the text of many signatures may be the same.
    texts: HashMap<Digest, Option<Vec<u8>>>,
    found: Found,
}

impl Search<'_, '_> {
    async fn everywhere(&mut self, manifest: Digest) -> Result<(), RegistryError> {
        let mut seen = HashSet::new();
        if let Some(bytes) = self.document(&format!("manifests/{}", tag(manifest)), IMAGE).await? {
            seen.insert(Digest::of(&bytes));
            self.take(&bytes).await?;
        }
        let list = match self.document(&format!("referrers/{manifest}"), INDEX).await? {
            Some(list) => Some(list),
            None => self.document(&format!("manifests/sha256-{}", manifest.hex()), INDEX).await?,
        };
        let index: Index = list
            .and_then(|list| serde_json::from_slice(&list).ok())
            .unwrap_or(Index { manifests: Vec::new() });
        let signatures = index.manifests.iter().filter(|referrer| referrer.may_be_signature());
        for digest in signatures.filter_map(|referrer| referrer.digest.parse().ok()).take(MAX_REFERRERS) {
            if !seen.insert(digest) {
                continue;
            }
            let bytes = self.document(&format!("manifests/{digest}"), IMAGE).await?;
            if let Some(bytes) = bytes.filter(|bytes| Digest::of(bytes) == digest) {
                self.take(&bytes).await?;
            }
        }
        Ok(())
    }

    /// Takes the signatures that a manifest has.
    async fn take(&mut self, manifest: &[u8]) -> Result<(), RegistryError> {
        let Ok(Signatures { layers }) = serde_json::from_slice(manifest) else {
            debug!("a manifest of signatures is not understood");
            return Ok(());
        };
        for layer in layers {
            if self.found.evidence.len() >= MAX_SIGNATURES {
                break;
            }
            let Ok(digest) = layer.digest.parse() else { continue };
            if is_bundle(&layer.media_type) {
                let bundle = self.text(digest).await?;
                let evidence = bundle.and_then(|bytes| read_bundle(&bytes)).unwrap_or_default();
                self.found.evidence.extend(evidence);
                self.found.evidence.truncate(MAX_SIGNATURES);
            } else if layer.media_type == SIMPLE_SIGNING {
                let signature = layer.annotations.get(SIGNATURE);
                let Some(signature) = signature.and_then(|text| BASE64_STANDARD.decode(text).ok()) else {
                    continue;
                };
                let text = self.text(digest).await?;
                self.found.evidence.extend(text.map(|text| Evidence::SimpleSigning { text, signature }));
            }
        }
        Ok(())
    }

    /// A blob, if there is one which is the one asked for.
    async fn text(&mut self, digest: Digest) -> Result<Option<Vec<u8>>, RegistryError> {
        if let Some(known) = self.texts.get(&digest) {
            return Ok(known.clone());
        }
        if self.texts.len() >= MAX_TEXTS {
            return Ok(None);
        }
        let text = self.get(&format!("blobs/{digest}"), ANYTHING, LARGEST_TEXT).await?;
        let text = text.filter(|text| Digest::of(text) == digest);
        self.texts.insert(digest, text.clone());
        Ok(text)
    }

    async fn document(&mut self, path: &str, accept: HeaderValue) -> Result<Option<Vec<u8>>, RegistryError> {
        self.get(path, accept, LARGEST_LIST).await
    }

    /// What is there; none if there is nothing, or nothing that could be taken. The error: the registry is away, or does not let us in.
    async fn get(
        &mut self,
        path: &str,
        accept: HeaderValue,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        let outcome = match self.client.get(path, accept).await {
            Ok(answer) => answer.body("signature", limit).await.map_err(RegistryError::from),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_away() || error.is_about_credentials() => Err(error),
            Err(RegistryError::Status { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => {
                debug!(%error, "passed over while looking for signatures");
                Ok(None)
            }
        }
    }
}

impl Referrer {
    /// Who lists a manifest may say of what kind it is, or what its config is, or nothing.
    fn may_be_signature(&self) -> bool {
        is_bundle(&self.artifact_type) || ["", ARTIFACT, CONFIG, EMPTY].contains(&self.artifact_type.as_str())
    }
}

/// Signs a manifest: adds to what is below cosign's tag, unless a signature by the key is there. The manifest of the signatures is a
/// referrer, too, for registries that know such.
pub(super) async fn sign(
    client: &mut Client<'_>,
    repository: &str,
    manifest: &[u8],
    key: &PrivateKey,
) -> Result<(), RegistryError> {
    let digest = Digest::of(manifest);
    let tag = tag(digest);
    let mut layers = layers_below(client, &tag).await?;
    if is_signed(client, manifest, key.public()).await? {
        return Ok(());
    }
    let text = simple_signing(repository, digest);
    layers.push(serde_json::json!({
        "mediaType": SIMPLE_SIGNING,
        "digest": Digest::of(&text).to_string(),
        "size": text.len(),
        "annotations": { SIGNATURE: key.sign_file(&text)? },
    }));
    let config = config(&layers);
    let signatures = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": ARTIFACT,
        "config": { "mediaType": CONFIG, "digest": Digest::of(&config).to_string(), "size": config.len() },
        "layers": layers,
        "subject": { "mediaType": MANIFEST, "digest": digest.to_string(), "size": manifest.len() },
    });
    client.put_blob(text).await?;
    client.put_blob(config).await?;
    client.put_manifest(&tag, signatures.to_string().into_bytes()).await
}

/// The config that cosign gives its manifests of signatures: that of an image without anything.
fn config(layers: &[serde_json::Value]) -> Vec<u8> {
    let digests: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
    serde_json::json!({
        "architecture": "",
        "created": "0001-01-01T00:00:00Z",
        "history": vec![serde_json::json!({ "created": "0001-01-01T00:00:00Z" }); layers.len()],
        "os": "",
        "rootfs": { "type": "layers", "diff_ids": digests },
        "config": {},
    })
    .to_string()
    .into_bytes()
}

/// The layers of the manifest below a tag; none if there is no such tag yet.
async fn layers_below(client: &mut Client<'_>, tag: &str) -> Result<Vec<serde_json::Value>, RegistryError> {
    let there = match client.manifest(&Version::Tag(tag.to_owned())).await {
        Ok((_, there)) => there,
        Err(RegistryError::Status { status: StatusCode::NOT_FOUND, .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let layers = serde_json::from_slice(&there)
        .ok()
        .and_then(|mut manifest: serde_json::Value| serde_json::from_value(manifest["layers"].take()).ok());
    layers.ok_or_else(|| RegistryError::Signatures { tag: tag.to_owned() })
}

async fn is_signed(client: &mut Client<'_>, manifest: &[u8], key: &PublicKey) -> Result<bool, RegistryError> {
    let found = fetch(client, Digest::of(manifest)).await;
    let subject = Subject::new(manifest);
    if found.evidence.iter().any(|evidence| evidence.is_good(key, &subject)) {
        return Ok(true);
    }
    found.trouble.map_or(Ok(false), Err)
}
