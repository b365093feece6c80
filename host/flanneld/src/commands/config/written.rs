//! The config that somebody has written, as it comes: from a file or the standard input.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::{Context as _, bail};

/// No store would take more.
const LONGEST: u64 = 1 << 20;

/// A config as it was written, and where.
pub(super) struct Written {
    /// For messages.
    pub place: String,
    /// The text, not checked.
    pub text: String,
}

impl Written {
    /// Reads a file, or the standard input for `-`. The file may be a pipe of the shell's.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let (place, bytes) = if file == Path::new("-") {
            ("the standard input".to_owned(), some(io::stdin().lock()))
        } else {
            (file.display().to_string(), File::open(file).and_then(some))
        };
        let bytes = bytes.with_context(|| format!("cannot read {place}"))?;
        if bytes.len() as u64 > LONGEST {
            bail!("{place} is longer than {LONGEST} bytes: right would be a network config");
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            anyhow::anyhow!("{place} is not UTF-8: right would be a network config, which is JSON")
        })?;
        Ok(Self { place, text })
    }
}

fn some(reader: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(LONGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_or_too_long_or_not_there_is_refused_by_name() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("net.json");
        let said = || Written::read(&file).err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(
            said().starts_with("cannot read ") && said().contains("net.json: No such file"),
            "{}",
            said()
        );
        std::fs::write(&file, b"\xff").expect("written");
        assert!(said().contains("net.json is not UTF-8"), "{}", said());
        std::fs::write(&file, " ".repeat(1 << 20) + " ").expect("written");
        assert!(said().contains("net.json is longer than 1048576 bytes"), "{}", said());
        std::fs::write(&file, "{}\n").expect("written");
        assert_eq!(Written::read(&file).expect("read").text, "{}\n");
    }
}
