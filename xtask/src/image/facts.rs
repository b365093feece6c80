//! What an image says of itself.

use std::process::Command;

use anyhow::{Context, Result};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cargo::{output, root};

/// What all architectures' images have in common.
pub struct Facts {
    /// flanneld's version.
    pub version: String,
    /// The commit that it is built from.
    pub revision: String,
    /// The time that all in it has, in seconds of the epoch.
    pub time: u64,
}

impl Facts {
    /// Asks git, and the environment for `SOURCE_DATE_EPOCH` (<https://reproducible-builds.org/specs/source-date-epoch/>), without which it is
    /// the commit's time.
    pub fn gather() -> Result<Self> {
        let git = |arguments: &[&str]| output(Command::new("git").args(arguments).current_dir(root()));
        let time = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(time) => time,
            Err(_) => git(&["log", "-1", "--format=%ct"])?,
        };
        let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
        let commit = git(&["rev-parse", "HEAD"])?;
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: if changed { format!("{commit}-changed") } else { commit },
            time: time.parse().with_context(|| format!("SOURCE_DATE_EPOCH: {time} are no seconds"))?,
        })
    }

    /// The time by RFC 3339.
    pub fn date(&self) -> Result<String> {
        let time = OffsetDateTime::from_unix_timestamp(i64::try_from(self.time)?)?;
        Ok(time.format(&Rfc3339)?)
    }

    /// By OCI's names (<https://specs.opencontainers.org/image-spec/annotations/>).
    pub fn annotations(&self) -> Result<serde_json::Value> {
        let values = [
            ("title", "flanneld"),
            ("description", "Gives every host of a cluster a subnet and makes the subnets reach each other"),
            // Ours, and those of Debian's packages: the copyright files are in the image.
            ("licenses", "Apache-2.0 AND GPL-2.0-or-later AND LGPL-2.1-or-later AND MPL-2.0"),
            ("version", &self.version),
            ("revision", &self.revision),
            ("created", &self.date()?),
        ];
        Ok(values.iter().map(|(name, value)| (format!("org.opencontainers.image.{name}"), *value)).collect())
    }
}
