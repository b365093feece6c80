//! The manifest of a component: an OCI image manifest with one layer, which is the component itself.
//!
//! Facts: the CNCF TAG Runtime's "Wasm OCI Artifact Layout", and the OCI image specification 1.1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::RegistryError;
use crate::artifact::MAX_COMPONENT_BYTES;
use crate::digest::Digest;

/// The media type of manifests.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";
/// Before there was the layout.
const OLDER_LAYER: &str = "application/vnd.wasm.content.layer.v1+wasm";

/// Where the component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    /// Read by themselves, so that odd ones do no harm.
    #[serde(skip_deserializing, skip_serializing_if = "Annotations::is_empty")]
    annotations: Annotations,
}

/// What a manifest says of what it is the manifest of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Annotations {
    #[serde(rename = "org.opencontainers.image.title", skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(rename = "org.opencontainers.image.version", skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When it was made, as RFC 3339 has it.
    #[serde(rename = "org.opencontainers.image.created", skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

impl Annotations {
    /// Reads those of a manifest. What is odd is left out.
    pub(super) fn of(manifest: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        struct Annotated {
            #[serde(default)]
            annotations: BTreeMap<String, serde_json::Value>,
        }
        let Annotated { mut annotations } = serde_json::from_slice(manifest).unwrap_or_default();
        let mut text = |name: &str| match annotations.remove(&format!("org.opencontainers.image.{name}")) {
            Some(serde_json::Value::String(text)) => Some(text),
            _ => None,
        };
        Self { title: text("title"), version: text("version"), created: text("created") }
    }

    /// When it was made, in seconds since 1970.
    pub(super) fn created(&self) -> Option<i64> {
        OffsetDateTime::parse(self.created.as_deref()?, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp)
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: usize,
}

/// Finds the component in a manifest. What is in the config is of no interest here: the component says itself what it is.
pub(super) fn layer(manifest: &[u8]) -> Result<Layer, RegistryError> {
    let refused = |what: String| Err(RegistryError::Manifest(what));
    let manifest: Manifest = match serde_json::from_slice(manifest) {
        Ok(manifest) => manifest,
        Err(error) => {
            return refused(format!("not understood at line {}, column {}", error.line(), error.column()));
        }
    };
    if manifest.schema_version != 2 {
        return refused(format!("its schema version is {}, not 2", manifest.schema_version));
    }
    if let Some(other) = manifest.media_type.filter(|media_type| media_type != MANIFEST) {
        return refused(format!("its media type is {}, not {MANIFEST}", shown(&other)));
    }
    let [layer] = &manifest.layers[..] else {
        return refused(format!("it has {} layers, not one", manifest.layers.len()));
    };
    if ![LAYER, OLDER_LAYER].contains(&layer.media_type.as_str()) {
        return refused(format!("its layer's media type is {}, not {LAYER}", shown(&layer.media_type)));
    }
    let Ok(digest) = layer.digest.parse() else {
        return refused(format!(
            "its layer's digest is {}, not sha256: with 64 digits",
            shown(&layer.digest)
        ));
    };
    if layer.size > MAX_COMPONENT_BYTES {
        return refused(format!("its component has {} bytes, which is more than 256 MiB", layer.size));
    }
    Ok(Layer { digest, size: layer.size })
}

/// The config that goes with a component.
pub(super) fn config(component: &[u8]) -> Vec<u8> {
    let layers = [Digest::of(component).to_string()];
    serde_json::json!({ "architecture": "wasm", "os": "wasip2", "layerDigests": layers })
        .to_string()
        .into_bytes()
}

/// The config that goes with a WIT package. Those who take packages want to know what is in it, and when it was made: that is the same moment
/// for all, so that the same package has the same digest.
pub(super) fn config_of_wit(package: &[u8], interfaces: &[String]) -> Vec<u8> {
    let layers = [Digest::of(package).to_string()];
    let component = serde_json::json!({ "exports": interfaces, "imports": [], "target": null });
    let config = serde_json::json!({
        "created": "1970-01-01T00:00:00Z",
        "author": null,
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": layers,
        "component": component,
    });
    config.to_string().into_bytes()
}

/// The manifest of a component with a config.
pub(super) fn compose(config: &[u8], component: Digest, size: usize, annotations: Annotations) -> Vec<u8> {
    let descriptor = |media_type: &str, digest: Digest, size| Descriptor {
        media_type: media_type.to_owned(),
        digest: digest.to_string(),
        size,
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST.to_owned()),
        config: Some(descriptor(CONFIG, Digest::of(config), config.len())),
        layers: vec![descriptor(LAYER, component, size)],
        annotations,
    };
    // Strings and numbers: there is nothing that could not be written.
    serde_json::to_vec(&manifest).unwrap_or_default()
}

/// What a stranger wrote, short and in one line.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}
