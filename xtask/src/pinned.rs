//! What tests have from PyPI, pinned in a file: fetched when that is another one than the last time.

use std::path::Path;

use anyhow::{Context, Result};

use crate::cargo::root;

/// Makes sure that it is in its place, or that the tests know why it is not: by a file beside that. `what`: whose tests these are.
pub fn install(place: &Path, requirements: &str, what: &str, fetch: fn() -> Result<()>) -> Result<()> {
    let requirements = std::fs::read(root().join(requirements)).with_context(|| requirements.to_owned())?;
    let (mark, skipped) = (place.join("installed"), place.with_extension("skipped"));
    if std::fs::read(&mark).is_ok_and(|installed| installed == requirements) {
        return Ok(());
    }
    for stale in [&mark, &skipped] {
        match std::fs::remove_file(stale) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    if let Err(missing) = fetch() {
        eprintln!("skipped: {what}: {missing:#}");
        return Ok(std::fs::write(skipped, format!("{missing:#}"))?);
    }
    Ok(std::fs::write(mark, requirements)?)
}
