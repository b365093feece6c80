//! The contract, rendered as documentation: `wit/` becomes `docs/wit.md`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

use crate::cargo::root;
use crate::plugins::write_if_changed;

fn place() -> PathBuf {
    root().join("docs/wit.md")
}

/// Renders it.
pub fn write() -> Result<()> {
    write_if_changed(&place(), render()?.as_bytes())
}

/// Fails if what is there is of other files.
pub fn check() -> Result<()> {
    let there = std::fs::read_to_string(place()).context("docs/wit.md; `cargo xtask reference` writes it")?;
    ensure!(there == render()?, "docs/wit.md is not of today's wit/: `cargo xtask reference` writes it anew");
    Ok(())
}

/// All that there is, and behind it what only some plugins export.
fn render() -> Result<String> {
    let mut all = world("backend")?;
    for name in ["cloud-backend", "retiring-backend"] {
        let rendered = world(name)?;
        // What it imports is there already.
        let (begin, _) = rendered.split_once("\n## ").context("the world's interfaces")?;
        let at = rendered.rfind("\n## ").context("the world's export")?;
        all.extend(["\n", begin, &rendered[at..]]);
    }
    Ok(all)
}

fn world(name: &str) -> Result<String> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(root().join("wit"))?;
    let world = resolve.select_world(&[package], Some(name))?;
    let mut files = Files::default();
    wit_bindgen_markdown::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    let is_markdown = |name: &str| Path::new(name).extension().is_some_and(|extension| extension == "md");
    let rendered = files.iter().find(|(name, _)| is_markdown(name));
    let (_, rendered) = rendered.context("the generator made no Markdown")?;
    let text = std::str::from_utf8(rendered).context("the rendered contract")?;
    // Only whitespace at the ends of lines is ours to correct.
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    Ok(format!("{}\n", lines.join("\n").trim_end()))
}
