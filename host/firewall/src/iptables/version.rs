//! What the installed iptables can do.

use crate::error::FirewallError;
use crate::tool::Tools;
use flannel_base::Family;

/// A version of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version([u32; 3]);

impl Version {
    pub(super) async fn ask(tools: &Tools, family: Family) -> Result<Self, FirewallError> {
        let program = tools.iptables(family, "");
        let said = tools.run(&program, &["--version"], "").await?;
        Self::parse(&said).ok_or_else(|| FirewallError::Output {
            command: format!("{program} --version"),
            reason: format!("no version in {:?}", said.trim()),
        })
    }

    /// Reads `iptables v1.8.9 (nf_tables)`.
    pub(crate) fn parse(said: &str) -> Option<Self> {
        let version = said.split_whitespace().find_map(|word| word.strip_prefix('v'))?;
        let mut parts = [0; 3];
        let mut words = version.split('.');
        for part in &mut parts {
            *part = words.next().map_or(Some(0), |word| word.parse().ok())?;
        }
        Some(Self(parts))
    }

    pub(crate) fn knows_random_fully(self) -> bool {
        self >= Self([1, 6, 2])
    }

    /// Whether `iptables-restore` can wait for the xtables lock.
    pub(crate) fn restore_waits(self) -> bool {
        self >= Self([1, 6, 2])
    }
}
