//! The processors that there are images for.

use anyhow::{Result, bail};
use clap::ValueEnum;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Architecture {
    /// x86, 64 bits
    Amd64,
    /// ARM, 64 bits
    Arm64,
}

impl Architecture {
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// This machine's.
    pub fn native() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("there are no images for {other}"),
        }
    }

    /// The name that OCI and Debian have for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The name that Rust, the kernel and QEMU have for it.
    pub fn machine(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// What static programs are compiled for.
    pub fn target(self) -> String {
        format!("{}-unknown-linux-musl", self.machine())
    }

    /// The directory of Debian's libraries for it.
    pub fn multiarch(self) -> String {
        format!("{}-linux-gnu", self.machine())
    }
}
