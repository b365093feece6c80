//! What comes from PyPI, pinned in a file: fetched when that is another one than the last time.

use std::path::Path;

use anyhow::{Context, Result};

use crate::cargo::root;

/// Makes sure that it is in its place, or that the tests know why it is not: by a file beside that. `what`: whose tests these are.
pub fn install(place: &Path, requirements: &str, what: &str, fetch: fn() -> Result<()>) -> Result<()> {
    let pins = root().join(requirements);
    std::fs::metadata(&pins).with_context(|| requirements.to_owned())?;
    let skipped = place.with_extension("skipped");
    if let Err(missing) = fetched(place, &pins, fetch) {
        eprintln!("skipped: {what}: {missing:#}");
        return Ok(std::fs::write(skipped, format!("{missing:#}"))?);
    }
    remove(&skipped)
}

/// Makes sure that it is in its place.
pub fn fetched(place: &Path, requirements: &Path, fetch: impl FnOnce() -> Result<()>) -> Result<()> {
    let pins = std::fs::read(requirements).with_context(|| requirements.display().to_string())?;
    let mark = place.join("installed");
    if std::fs::read(&mark).is_ok_and(|installed| installed == pins) {
        return Ok(());
    }
    remove(&mark)?;
    fetch()?;
    Ok(std::fs::write(mark, pins)?)
}

fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
