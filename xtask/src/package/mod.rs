//! What authors of plugins have from registries, as it would be published: the crate, and the packages for Python and JavaScript.

mod npm;
mod pypi;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::cargo::{cargo, root, run, target};
use crate::languages::copy_over;

/// Whether registries would take them, and whether they work with nothing but what is in them.
pub fn check() -> Result<()> {
    published_crate()?;
    pypi::check().context("the package for Python")?;
    npm::check().context("the package for JavaScript")
}

/// The contract in it is a link to that of the repository.
fn published_crate() -> Result<()> {
    run(&mut cargo(&[
        "publish",
        "--dry-run",
        "--allow-dirty",
        "--quiet",
        "--package",
        "flannel-backend",
        "--target",
        "wasm32-unknown-unknown",
    ]))
}

/// A new directory with what belongs into a package, where links are what they lead to.
fn staged(name: &str, from: &Path, parts: &[&str]) -> Result<PathBuf> {
    let place = target().join("packages").join(name);
    if place.exists() {
        std::fs::remove_dir_all(&place).with_context(|| place.display().to_string())?;
    }
    let source = place.join("source");
    std::fs::create_dir_all(&source).with_context(|| source.display().to_string())?;
    for part in parts {
        let (from, to) = (from.join(part), source.join(part));
        if from.is_dir() {
            copy_over(&from, &to)?;
        } else {
            std::fs::copy(&from, &to).with_context(|| from.display().to_string())?;
        }
    }
    Ok(place)
}

/// The names of the contract's files.
fn contract() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("wit"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if Path::new(&name).extension().is_some_and(|extension| extension == "wit") {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether an installed package has the whole contract, and the version of all the others.
fn check_content(contract_place: &Path, version: &str) -> Result<()> {
    let ours = env!("CARGO_PKG_VERSION");
    ensure!(version == ours, "its version is {version}, and that of the crates is {ours}");
    for name in contract()? {
        let packed = contract_place.join(&name);
        ensure!(
            std::fs::read(&packed).with_context(|| packed.display().to_string())?
                == std::fs::read(root().join("wit").join(&name))?,
            "{name} is not as in wit/"
        );
    }
    Ok(())
}
