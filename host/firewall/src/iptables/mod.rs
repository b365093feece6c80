//! The rules as chains in the tables `nat` and `filter`.

pub(super) mod kubelet;
pub(super) mod payload;
pub(super) mod rules;
pub(super) mod saved;
mod version;

use tokio::sync::OnceCell;

use super::error::FirewallError;
use super::ownership::OwnNetworks;
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
    own: OwnNetworks,
    version: OnceCell<Version>,
}

impl ChainRules {
    pub(crate) fn new(
        family: Family,
        purpose: Purpose,
        owner: Owner,
        networks: FamilyRules,
        random_fully: bool,
        own: OwnNetworks,
    ) -> Self {
        Self { family, purpose, owner, networks, random_fully, own, version: OnceCell::new() }
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
        Ok(saved::view(&self.saved(tools, &chain).await?, &chain, &self.own))
    }

    /// The chain's table. One program for all of it; upstream runs two for each rule.
    async fn saved(&self, tools: &Tools, chain: &Chain) -> Result<String, FirewallError> {
        tools.run(&tools.iptables(self.family, "-save"), &["-t", chain.table], "").await
    }

    /// Makes what is there into what should be.
    pub(crate) async fn install(&self, tools: &Tools, there: &[String]) -> Result<(), FirewallError> {
        let wanted = self.expected(tools).await?;
        let chain = self.chain();
        let foreign = saved::foreign(&self.saved(tools, &chain).await?, &chain, &self.own);
        let payload = payload::refill(&chain, &wanted, there, &foreign);
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
    own: &OwnNetworks,
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
            if let Some(payload) = payload::removal(&chain, &saved, own) {
                let version = Version::ask(tools, family).await?;
                restore(tools, family, version, &payload).await?;
                removed.push(format!("{family} chain {} in table {} of iptables", chain.name, chain.table));
            }
        }
    }
    Ok(removed)
}
