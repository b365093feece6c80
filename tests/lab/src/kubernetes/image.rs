//! Images of containers, made here of single files, and without any registry: archives in the OCI's layout, as `ctr images import` takes them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What the kubelet has each pod's sandbox run.
pub const SANDBOX: &str = "registry.k8s.io/pause:3.10.1";
/// busybox, for pods of tests. By itself it sleeps.
pub const BUSYBOX: &str = "localhost/busybox:lab";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Writes an archive with one image under both names: a busybox and links to it. What has no name is made in a directory that is new.
pub fn write_busybox(busybox: &Path, scratch: &Path, archive: &Path) -> Result<()> {
    let root = scratch.join("root");
    fs::create_dir_all(root.join("bin")).with_context(|| root.display().to_string())?;
    fs::copy(busybox, root.join("bin/busybox")).with_context(|| busybox.display().to_string())?;
    for applet in ["sh", "sleep", "ip", "nc", "wget", "cat", "httpd"] {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    let layer = scratch.join("layer.tar");
    pack(&root, &layer)?;

    let layout = scratch.join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| blobs.display().to_string())?;
    let blob = |bytes: &[u8], kind: &str| -> Result<Value> {
        let digest = hex(bytes);
        fs::write(blobs.join(&digest), bytes)?;
        Ok(json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len() }))
    };
    let json_blob = |value: &Value, kind: &str| blob(value.to_string().as_bytes(), kind);
    let layer = blob(&fs::read(&layer)?, LAYER)?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "1000000000"] },
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let config = json_blob(&config, CONFIG)?;
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    let manifest = json_blob(&manifest, MANIFEST)?;
    let named = [SANDBOX, BUSYBOX].map(|name| {
        let mut named = manifest.clone();
        named["annotations"] = json!({ "io.containerd.image.name": name });
        named
    });
    fs::write(layout.join("index.json"), json!({ "schemaVersion": 2, "manifests": named }).to_string())?;
    fs::write(layout.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
    pack(&layout, archive)
}

/// Packs what is in a directory.
fn pack(directory: &Path, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "--numeric-owner", "-cf"])
        .arg(archive)
        .arg("-C")
        .arg(directory)
        .arg(".");
    let output = tar.output().context("cannot run tar")?;
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

fn hex(bytes: &[u8]) -> String {
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    hash.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
