//! The contract's bindings for languages whose toolchain makes none: in Go and in C, as authors get them from `flanneld plugin new`. Of the
//! whole contract, since what is not used is not imported.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator};

use crate::cargo::{installed, root};
use crate::plugins::write_if_changed;

/// What the examples are called, and so the module of the one in Go.
const EXAMPLE: &str = "example-host-gw";
/// Where Go's bindings look for what they have in common, which cannot be had there everywhere: the project has it itself.
const SHARED: &str = "go.bytecodealliance.org/pkg/wit";
/// Where Go's bindings look for the functions that the host calls.
const EXPORTS: &str = "export_flannel_backend_policy";

/// How the end of C's bindings begins, which refers to an object file that says what the world is.
const FORCES_LINK: &str = "// Ensure that the *_component_type.o object is linked in";

/// Generates them.
pub fn write() -> Result<()> {
    for (place, content) in all()? {
        if let Some(directory) = place.parent() {
            std::fs::create_dir_all(directory)?;
        }
        write_if_changed(&place, &content)?;
    }
    Ok(())
}

/// Fails if what is there is of other files.
pub fn check() -> Result<()> {
    for (place, content) in all()? {
        let there = std::fs::read(&place).unwrap_or_default();
        let shown = place.strip_prefix(root()).unwrap_or(&place).display();
        ensure!(there == content, "{shown} is not of today's wit/: `cargo xtask bindings` writes it anew");
    }
    Ok(())
}

fn all() -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = c()?;
    if installed("gofmt") {
        found.extend(go()?);
    } else {
        eprintln!("skipped: the bindings in Go: there is no gofmt");
    }
    Ok(found)
}

/// `flanneld plugin componentize` is told the world, so that there is no need of an object file that says it.
fn c() -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let options = wit_bindgen_c::Opts {
        no_object_file: true,
        rename_world: Some("plugin".to_owned()),
        ..wit_bindgen_c::Opts::default()
    };
    let files = generate(options.build(), &root().join("sdk/c/example/bindings"))?;
    let without_object = |content: Vec<u8>| -> Result<Vec<u8>> {
        let text = String::from_utf8(content).context("generated C is text")?;
        let before = text.split_once(FORCES_LINK).map_or(text.as_str(), |(before, _)| before);
        Ok(format!("{}\n", before.trim_end()).into_bytes())
    };
    files.into_iter().map(|(place, content)| Ok((place, without_object(content)?))).collect()
}

fn go() -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let module = format!("{EXAMPLE}/bindings");
    let options = wit_bindgen_go::Opts { pkg_name: Some(module.clone()), ..wit_bindgen_go::Opts::default() };
    let files = generate(options.build(), &root().join("sdk/go/example/bindings"))?;
    let named = |content: Vec<u8>| -> Result<Vec<u8>> {
        let text = String::from_utf8(content).context("generated Go is text")?;
        let text = text.replace(SHARED, &format!("{module}/wit"));
        let exports = format!("{EXPORTS} \"{EXAMPLE}/flannel/exports\"");
        Ok(text.replace(&format!("\"{module}/{EXPORTS}\""), &exports).into_bytes())
    };
    files.into_iter().map(|(place, content)| Ok((place, named(content)?))).collect()
}

fn generate(mut generator: Box<dyn WorldGenerator>, into: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(root().join("wit"))?;
    let world = resolve.select_world(&[package], Some("backend"))?;
    let mut files = Files::default();
    generator.generate(&mut resolve, world, &mut files)?;
    Ok(files.iter().map(|(name, content)| (into.join(name), content.to_vec())).collect())
}
