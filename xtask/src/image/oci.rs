//! Images by the OCI's image specification 1.1 (<https://specs.opencontainers.org/image-spec/>): as a layout on disk, and as archives that
//! `docker load` takes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::architecture::Architecture;
use super::facts::Facts;
use super::layer::{Layer, archive, digest};
use super::tree::Tree;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const SBOM: &str = "application/vnd.cyclonedx+json";

/// The image of an architecture.
pub struct Image {
    /// The architecture.
    pub architecture: Architecture,
    /// `PATH` in it.
    pub path: String,
    /// From the lowest on.
    pub layers: Vec<Layer>,
    /// What it is made of.
    pub sbom: Vec<u8>,
}

impl Image {
    /// Its sizes, for whoever builds it.
    pub fn summary(&self) -> String {
        let mib = |bytes: usize| bytes / 1024 * 10 / 1024;
        let layer = |layer: &Layer| {
            let (packed, unpacked) = (mib(layer.blob.len()), mib(layer.unpacked));
            format!("{}.{} MiB ({}.{} unpacked)", packed / 10, packed % 10, unpacked / 10, unpacked % 10)
        };
        let layers: Vec<String> = self.layers.iter().map(layer).collect();
        format!("{}: layers of {}", self.architecture.name(), layers.join(" and "))
    }

    fn config(&self, facts: &Facts) -> Result<Value> {
        let history = ["Debian's programs", "flanneld"].map(|what| json!({ "created_by": what }));
        Ok(json!({
            "created": facts.date()?,
            "architecture": self.architecture.name(),
            "os": "linux",
            "config": {
                "Env": [format!("PATH={}", self.path)],
                "Entrypoint": ["/opt/bin/flanneld"],
                "WorkingDir": "/",
                "Labels": facts.annotations()?,
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": self.layers.iter().map(|layer| layer.diff_id.as_str()).collect::<Vec<_>>(),
            },
            "history": history,
        }))
    }
}

/// Documents and layers by their digests.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    /// Adds one, and says what refers to it.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let (digest, size) = (digest(&bytes), bytes.len());
        self.0.insert(path(&digest), bytes);
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    }

    fn json(&mut self, media_type: &str, document: &Value) -> Result<Value> {
        Ok(self.add(media_type, serde_json::to_vec(document)?))
    }

    /// Adds an image, and says what refers to its manifest.
    fn image(&mut self, facts: &Facts, image: &Image) -> Result<Value> {
        let config = self.json(CONFIG, &image.config(facts)?)?;
        let layers: Vec<Value> =
            image.layers.iter().map(|layer| self.add(LAYER, layer.blob.clone())).collect();
        let mut manifest = self.json(
            MANIFEST,
            &json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config,
                "layers": layers,
                "annotations": facts.annotations()?,
            }),
        )?;
        manifest["platform"] = json!({ "architecture": image.architecture.name(), "os": "linux" });
        Ok(manifest)
    }

    /// Adds what an image is made of, as an artifact that refers to it.
    fn sbom(&mut self, facts: &Facts, image: &Image, subject: &Value) -> Result<Value> {
        let config = self.add(EMPTY, b"{}".to_vec());
        let layer = self.add(SBOM, image.sbom.clone());
        let subject = json!({
            "mediaType": subject["mediaType"], "digest": subject["digest"], "size": subject["size"],
        });
        let mut manifest = self.json(
            MANIFEST,
            &json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "artifactType": SBOM,
                "config": config,
                "layers": [layer],
                "subject": subject,
                "annotations": { "org.opencontainers.image.created": facts.date()? },
            }),
        )?;
        manifest["artifactType"] = json!(SBOM);
        Ok(manifest)
    }
}

/// Where a blob is in a layout.
fn path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// An image layout: one index with the images of all architectures, and what each is made of.
pub struct Layout {
    files: BTreeMap<String, Vec<u8>>,
    digest: String,
}

impl Layout {
    /// Makes it.
    pub fn of(facts: &Facts, images: &[Image]) -> Result<Self> {
        let mut blobs = Blobs::default();
        let (mut manifests, mut others) = (Vec::new(), Vec::new());
        for image in images {
            let manifest = blobs.image(facts, image)?;
            others.push(blobs.sbom(facts, image, &manifest)?);
            manifests.push(manifest);
        }
        let mut index = blobs.json(
            INDEX,
            &json!({
                "schemaVersion": 2,
                "mediaType": INDEX,
                "manifests": manifests,
                "annotations": facts.annotations()?,
            }),
        )?;
        let digest = index["digest"].as_str().unwrap_or_default().to_owned();
        index["annotations"] = json!({ "org.opencontainers.image.ref.name": facts.version });
        let all: Vec<Value> = std::iter::once(index).chain(others).collect();
        let mut files = blobs.0;
        files.extend(top(&all)?);
        Ok(Self { files, digest })
    }

    /// The digest of the index: that of the image in a registry.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Writes it to a directory, in place of the layout that is there.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let old = directory.join("blobs");
        if old.exists() {
            std::fs::remove_dir_all(&old).with_context(|| old.display().to_string())?;
        }
        for (path, bytes) in &self.files {
            let file = directory.join(path);
            std::fs::create_dir_all(file.parent().unwrap_or(directory))?;
            std::fs::write(&file, bytes).with_context(|| file.display().to_string())?;
        }
        Ok(())
    }
}

/// The two files at the top of a layout.
fn top(manifests: &[Value]) -> Result<[(String, Vec<u8>); 2]> {
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    let version = json!({ "imageLayoutVersion": "1.0.0" });
    Ok([
        ("index.json".to_owned(), serde_json::to_vec(&index)?),
        ("oci-layout".to_owned(), serde_json::to_vec(&version)?),
    ])
}

/// Writes an image as an archive for `docker load`: a layout, with the document that older versions of Docker look for.
pub fn write_docker_archive(facts: &Facts, image: &Image, file: &Path) -> Result<()> {
    let tag = format!("flanneld:{}", facts.version);
    let mut blobs = Blobs::default();
    let mut manifest = blobs.image(facts, image)?;
    manifest["annotations"] =
        json!({ "io.containerd.image.name": tag, "org.opencontainers.image.ref.name": facts.version });
    let config = digest(&serde_json::to_vec(&image.config(facts)?)?);
    let layers: Vec<String> = image.layers.iter().map(|layer| path(&digest(&layer.blob))).collect();
    let legacy = json!([{ "Config": path(&config), "RepoTags": [tag], "Layers": layers }]);
    let mut files = blobs.0;
    files.extend(top(&[manifest])?);
    files.insert("manifest.json".to_owned(), serde_json::to_vec(&legacy)?);
    let mut tree = Tree::default();
    for (path, bytes) in files {
        tree.file(&path, 0o644, bytes)?;
    }
    std::fs::write(file, archive(&tree, facts.time)?).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts { version: "1.2.3".to_owned(), revision: "abc".to_owned(), time: 1_700_000_000 }
    }

    fn image(architecture: Architecture) -> Result<Image> {
        let mut tree = Tree::default();
        tree.program("opt/bin/flanneld", architecture.name().into())?;
        let layers = vec![Layer::pack(&tree, facts().time)?];
        Ok(Image { architecture, path: "/opt/bin".to_owned(), layers, sbom: b"{}\n".to_vec() })
    }

    fn both() -> Result<Layout> {
        Layout::of(&facts(), &[image(Architecture::Amd64)?, image(Architecture::Arm64)?])
    }

    fn document(layout: &Layout, reference: &Value) -> Result<Value> {
        let digest = reference["digest"].as_str().context("no digest")?;
        let bytes = layout.files.get(&path(digest)).with_context(|| format!("no blob {digest}"))?;
        assert_eq!(super::digest(bytes), digest);
        assert_eq!(reference["size"], bytes.len());
        Ok(serde_json::from_slice(bytes)?)
    }

    #[test]
    fn the_same_image_has_the_same_digest_and_another_has_not() -> Result<()> {
        assert_eq!(both()?.files, both()?.files);
        let later = Facts { time: facts().time + 1, ..facts() };
        assert_ne!(
            Layout::of(&later, &[image(Architecture::Amd64)?])?.digest,
            Layout::of(&facts(), &[image(Architecture::Amd64)?])?.digest
        );
        Ok(())
    }

    #[test]
    fn one_index_leads_to_all_architectures() -> Result<()> {
        let layout = both()?;
        let top: Value = serde_json::from_slice(layout.files.get("index.json").context("no index.json")?)?;
        assert_eq!(top["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "1.2.3");
        assert_eq!(top["manifests"][0]["digest"], layout.digest());
        let index = document(&layout, &top["manifests"][0])?;
        for (at, name) in ["amd64", "arm64"].into_iter().enumerate() {
            let reference = &index["manifests"][at];
            assert_eq!(reference["platform"]["architecture"], name);
            let manifest = document(&layout, reference)?;
            let config = document(&layout, &manifest["config"])?;
            assert_eq!(config["architecture"], name);
            assert_eq!(config["config"]["Entrypoint"], json!(["/opt/bin/flanneld"]));
            assert_eq!(config["config"]["Labels"]["org.opencontainers.image.revision"], "abc");
            assert_eq!(config["created"], "2023-11-14T22:13:20Z");
            let layer = manifest["layers"][0]["digest"].as_str().context("no layer")?;
            assert!(layout.files.contains_key(&path(layer)));
        }
        Ok(())
    }

    #[test]
    fn what_an_image_is_made_of_refers_to_it() -> Result<()> {
        let layout = both()?;
        let top: Value = serde_json::from_slice(layout.files.get("index.json").context("no index.json")?)?;
        let index = document(&layout, &top["manifests"][0])?;
        let sbom = document(&layout, &top["manifests"][2])?;
        assert_eq!(sbom["artifactType"], SBOM);
        assert_eq!(sbom["subject"]["digest"], index["manifests"][1]["digest"]);
        Ok(())
    }

    #[test]
    fn an_archive_for_docker_names_blobs_that_are_in_it() -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        write_docker_archive(&facts(), &image(Architecture::Amd64)?, file.path())?;
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(std::fs::File::open(file.path())?).entries()? {
            let mut entry = entry?;
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes)?;
            files.insert(entry.path()?.display().to_string(), bytes);
        }
        let manifest: Value =
            serde_json::from_slice(files.get("manifest.json").context("no manifest.json")?)?;
        assert_eq!(manifest[0]["RepoTags"], json!(["flanneld:1.2.3"]));
        for name in [&manifest[0]["Config"], &manifest[0]["Layers"][0]] {
            assert!(files.contains_key(name.as_str().context("no name")?), "{name}");
        }
        Ok(())
    }
}
