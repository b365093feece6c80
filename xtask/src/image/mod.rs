//! The container image: flanneld, the CNI plugin, and the firewall's programs of Debian's packages, on nothing else
//! (`deploy/image/README.md`). No container engine takes part: an image is archives and a few documents, and these are written here, so that the
//! same inputs make the same image, byte for byte.

mod architecture;
mod authorities;
mod binaries;
mod debian;
mod docker;
mod elf;
mod facts;
mod layer;
mod oci;
mod packages;
mod recipe;
mod sbom;
mod tree;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Args;

use crate::cargo::{root, target};
pub use architecture::Architecture;
use facts::Facts;
use layer::Layer;
use oci::{Image, Layout};
use recipe::Recipe;
use tree::Tree;

/// What `cargo xtask image` takes.
#[derive(Args)]
pub struct Options {
    /// An architecture to make it for; may be given several times; without it, for all
    #[arg(long, value_enum)]
    arch: Vec<Architecture>,
    /// Where it goes
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Builds the image, as an OCI image layout and as archives for `docker load`, with a list of what it is made of.
pub fn build(options: &Options) -> Result<()> {
    let mut architectures = options.arch.clone();
    if architectures.is_empty() {
        architectures = Architecture::ALL.to_vec();
    }
    architectures.sort_unstable();
    architectures.dedup();
    let output = options.output.clone().unwrap_or_else(|| target().join("image"));
    build_into(&output, &architectures)
}

/// Makes sure that the tests have the image of this machine's architecture and a Docker to run it, or know why they have not: it is built anew
/// where `cargo xtask image` has built one before, since the first build takes longer than all tests.
pub fn install() -> Result<()> {
    let skipped = test_image().with_extension("skipped");
    let was_built = target().join("image/oci").is_dir();
    let wanted =
        if was_built { Ok(()) } else { Err(anyhow!("`cargo xtask image` has to have built it once")) };
    let made = wanted.and_then(|()| docker::find());
    let made = made.and_then(|()| build_into(&test_place(), &[Architecture::native()?]));
    if let Err(missing) = made {
        eprintln!("skipped: the test of the container image: {missing:#}");
        std::fs::create_dir_all(test_place())?;
        return Ok(std::fs::write(skipped, format!("{missing:#}"))?);
    }
    match std::fs::remove_file(&skipped) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| skipped.display().to_string())
        }
        _ => Ok(()),
    }
}

/// The image of this machine's architecture, built anew, as `docker load` takes it.
pub fn native() -> Result<PathBuf> {
    build_into(&test_place(), &[Architecture::native()?])?;
    Ok(test_image())
}

/// Makes sure that there is a Docker to run it.
pub fn docker() -> Result<()> {
    docker::find()
}

/// The archive that the tests load. Beside it, with the extension `skipped`, is why there is none.
pub fn test_image() -> PathBuf {
    test_place().join("flanneld.tar")
}

/// The directories with Docker's programs, for the tests.
pub fn test_docker() -> PathBuf {
    docker::place()
}

fn test_place() -> PathBuf {
    target().join("tools/image")
}

fn build_into(output: &Path, architectures: &[Architecture]) -> Result<()> {
    let recipe = Recipe::read(&root().join("deploy/image/recipe.toml"))?;
    let facts = Facts::gather()?;
    let mut images = Vec::new();
    for architecture in architectures {
        let image = image(&recipe, &facts, *architecture)
            .with_context(|| format!("no image for {}", architecture.name()))?;
        eprintln!("image: {}", image.summary());
        images.push(image);
    }
    let layout = Layout::of(&facts, &images)?;
    layout.write(&output.join("oci"))?;
    for image in &images {
        let name = match images.as_slice() {
            [_] => "flanneld".to_owned(),
            _ => format!("flanneld-{}", image.architecture.name()),
        };
        oci::write_docker_archive(&facts, image, &output.join(&name).with_extension("tar"))?;
        let sbom = output.join(&name).with_extension("cdx.json");
        std::fs::write(&sbom, &image.sbom).with_context(|| sbom.display().to_string())?;
    }
    println!("{}", layout.digest());
    Ok(())
}

fn image(recipe: &Recipe, facts: &Facts, architecture: Architecture) -> Result<Image> {
    let packages = debian::fetch(architecture, "packages", &recipe.package_names())?;
    let base = packages::tree(recipe, architecture, &packages)?;
    let binaries = binaries::build(architecture)?;
    let mut own = Tree::default();
    own.program("opt/bin/flanneld", binaries.daemon)?;
    own.program("flannel", binaries.cni)?;
    own.file("usr/share/doc/flanneld/LICENSE", 0o644, std::fs::read(root().join("LICENSE"))?)?;
    for (from, to) in recipe.own_links() {
        own.link(from, to)?;
    }
    let crates = binaries::crates(architecture)?;
    Ok(Image {
        architecture,
        path: recipe.path.join(":"),
        layers: vec![Layer::pack(&base, facts.time)?, Layer::pack(&own, facts.time)?],
        sbom: sbom::document(facts, architecture, &crates, &packages)?,
    })
}
