//! Archives in the OCI's layout, as `ctr images import` takes them: one layer, a configuration, a manifest, and an index with names.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image, but for what is in it.
pub struct Image<'a> {
    /// All its names, as manifests of pods have them.
    pub names: &'a [&'a str],
    /// Where its programs are found.
    pub path: &'a str,
    /// What it runs unless it is told otherwise.
    pub command: &'a [&'a str],
}

impl Image<'_> {
    /// Writes an archive of an image with all that is below `root`, by way of files in `scratch`, which is made.
    pub fn write(&self, root: &Path, scratch: &Path, archive: &Path) -> Result<()> {
        let blobs = scratch.join("layout/blobs/sha256");
        fs::create_dir_all(&blobs).with_context(|| blobs.display().to_string())?;
        let layer = scratch.join("layer.tar");
        pack(root, &layer)?;
        let layer = blob(&blobs, &fs::read(&layer)?, LAYER)?;
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Env": [format!("PATH={}", self.path)], "Cmd": self.command },
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        });
        let config = blob(&blobs, config.to_string().as_bytes(), CONFIG)?;
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        let manifest = blob(&blobs, manifest.to_string().as_bytes(), MANIFEST)?;
        let named = self.names.iter().map(|name| {
            let mut named = manifest.clone();
            named["annotations"] = json!({ "io.containerd.image.name": name });
            named
        });
        let index = json!({ "schemaVersion": 2, "manifests": named.collect::<Vec<_>>() });
        let layout = scratch.join("layout");
        fs::write(layout.join("index.json"), index.to_string())?;
        fs::write(layout.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
        pack(&layout, archive)?;
        fs::remove_dir_all(scratch).with_context(|| scratch.display().to_string())
    }
}

/// Writes a blob under its digest. Answers how others refer to it.
fn blob(blobs: &Path, bytes: &[u8], media_type: &str) -> Result<Value> {
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    let digest = hash.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    fs::write(blobs.join(&digest), bytes).with_context(|| blobs.display().to_string())?;
    Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() }))
}

/// Packs what is in a directory.
fn pack(directory: &Path, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "--numeric-owner", "-cf"]).arg(archive);
    let output = tar.arg("-C").arg(directory).arg(".").output().context("cannot run tar")?;
    ensure!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// As Go calls it, whose names images have.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
