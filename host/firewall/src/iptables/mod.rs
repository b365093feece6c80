//! The rules as chains in the tables `nat` and `filter`.

pub(super) mod payload;
pub(super) mod rules;
pub(super) mod saved;
mod version;

use tokio::sync::OnceCell;

use super::error::FirewallError;
use super::rules::{FamilyRules, Owner, Owners, Purpose};
use super::tool::Tools;
use flannel_base::Family;
use rules::Chain;
pub(super) use version::Version;

/// How many seconds to wait for the xtables lock.
const LOCK_WAIT: &str = "--wait=30";

/// A chain with its jump, for one family.
pub(super) struct ChainRules {
    pub family: Family,
    pub purpose: Purpose,
    owner: Owner,
    networks: FamilyRules,
    random_fully: bool,
    version: OnceCell<Version>,
}

impl ChainRules {
    pub(crate) fn new(
        family: Family,
        purpose: Purpose,
        owner: Owner,
        networks: FamilyRules,
        random_fully: bool,
    ) -> Self {
        Self { family, purpose, owner, networks, random_fully, version: OnceCell::new() }
    }

    /// What should be there, in the words of `iptables -S`.
    pub(crate) async fn expected(&self, tools: &Tools) -> Result<Vec<String>, FirewallError> {
        let version = self.version(tools).await?;
        let random_fully = self.random_fully && version.knows_random_fully();
        Ok(rules::listing(self.purpose, &self.owner, &self.networks, random_fully))
    }

    /// What is there.
    pub(crate) async fn look(&self, tools: &Tools) -> Result<Vec<String>, FirewallError> {
        let chain = self.chain();
        // One program for a table; upstream runs two for each rule.
        let saved = tools.run(&tools.iptables(self.family, "-save"), &["-t", chain.table], "").await?;
        Ok(saved::view(&saved, &chain))
    }

    /// Makes what is there into what should be.
    pub(crate) async fn install(&self, tools: &Tools, there: &[String]) -> Result<(), FirewallError> {
        let wanted = self.expected(tools).await?;
        let payload = payload::refill(&self.chain(), &wanted, there);
        restore(tools, self.family, *self.version(tools).await?, &payload).await
    }

    fn chain(&self) -> Chain {
        Chain::of(self.purpose, &self.owner)
    }

    async fn version(&self, tools: &Tools) -> Result<&Version, FirewallError> {
        self.version.get_or_try_init(|| Version::ask(tools, self.family)).await
    }
}

async fn restore(
    tools: &Tools,
    family: Family,
    version: Version,
    payload: &str,
) -> Result<(), FirewallError> {
    let arguments: &[&str] = if version.restore_waits() { &["--noflush", LOCK_WAIT] } else { &["--noflush"] };
    tools.run(&tools.iptables(family, "-restore"), arguments, payload).await?;
    Ok(())
}

/// Removes chains and what leads to them, and says which. Without the program there is nothing to remove.
pub(super) async fn remove(
    tools: &Tools,
    family: Family,
    purposes: &[Purpose],
    owners: &Owners,
) -> Result<Vec<String>, FirewallError> {
    // All tables that there are: naming one would have it made, and the kernel's modules loaded.
    let saved = match tools.run(&tools.iptables(family, "-save"), &[], "").await {
        Err(FirewallError::Missing { .. }) => return Ok(Vec::new()),
        other => other?,
    };
    let mut removed = Vec::new();
    for purpose in purposes {
        let owners = match owners {
            Owners::These(owners) => owners.clone(),
            Owners::All => saved::owners(&saved, *purpose),
        };
        for chain in owners.iter().map(|owner| Chain::of(*purpose, owner)) {
            if let Some(payload) = payload::removal(&chain, &saved) {
                let version = Version::ask(tools, family).await?;
                restore(tools, family, version, &payload).await?;
                removed.push(format!("{family} chain {} in table {} of iptables", chain.name, chain.table));
            }
        }
    }
    Ok(removed)
}
