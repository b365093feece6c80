//! The wall clock of a daemon, which a test can put forward and back. (The kernel's time namespaces do not have this clock.)

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{Lab, artifacts};

/// A wall clock that starts right. The monotonic clock, by which timers run, is nobody's to change.
#[derive(Clone, Debug)]
pub struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// Makes one.
    pub fn new(lab: &Lab) -> Result<Self> {
        let clock = Self { library: artifacts::faketime()?, offset: lab.directory().join("clock") };
        clock.set_hours_ahead(0)?;
        Ok(clock)
    }

    /// Puts it so many hours ahead of the right time, or behind. Who looks at it next sees it so.
    pub fn set_hours_ahead(&self, hours: i32) -> Result<()> {
        // Nobody is to see half of it.
        let new = self.offset.with_extension("new");
        std::fs::write(&new, format!("{hours:+}h\n")).with_context(|| new.display().to_string())?;
        std::fs::rename(&new, &self.offset).with_context(|| self.offset.display().to_string())
    }

    /// What makes a process go by it.
    pub(crate) fn environment(&self) -> [(&'static str, &Path); 5] {
        [
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", &self.offset),
            ("FAKETIME_NO_CACHE", Path::new("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
            // The times of files are what they are.
            ("NO_FAKE_STAT", Path::new("1")),
        ]
    }
}
