//! What no daemon may ever say.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::Lab;

/// What a panic of the daemon has in it.
const PANIC: &str = "panicked at";

/// The logs of all nodes, of which each part is read once.
pub struct LogWatch(Vec<(PathBuf, u64)>);

impl LogWatch {
    /// From the beginning of all logs.
    pub fn new(lab: &Lab) -> Self {
        Self(lab.nodes().iter().map(|node| (node.directory().join("flanneld.log"), 0)).collect())
    }

    /// Nothing came since the last time that no daemon may say.
    pub fn nothing_bad(&mut self) -> Result<()> {
        for (path, begin) in &mut self.0 {
            let mut file = File::open(&*path).with_context(|| path.display().to_string())?;
            file.seek(SeekFrom::Start(*begin))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
            // What is not a whole line yet is read the next time.
            let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            *begin += complete as u64;
            let text = String::from_utf8_lossy(&bytes[..complete]);
            if let Some(line) = text.lines().find(|line| line.contains(PANIC)) {
                bail!("{}: {line}", path.display());
            }
        }
        Ok(())
    }
}
