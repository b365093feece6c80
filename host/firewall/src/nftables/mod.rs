//! The rules as tables of our own.

pub(super) mod listing;
pub(super) mod rules;

use serde_json::Value;

use super::error::FirewallError;
use super::ownership::OwnNetworks;
use super::rules::{Owner, Owners};
use super::tool::Tools;
use flannel_base::Family;
use rules::{Table, protocol, table_name};

const PROGRAM: &str = "nft";

impl Table {
    /// What is there.
    pub(super) async fn look(&self, tools: &Tools) -> Result<Vec<Value>, FirewallError> {
        Ok(list(tools, self.family, &self.owner).await?.unwrap_or_default())
    }

    /// Replaces the table.
    pub(super) async fn install(&self, tools: &Tools) -> Result<(), FirewallError> {
        match tools.run(PROGRAM, &["-f", "-"], &self.script(true)).await {
            // Old kernels and old versions of nft know no comments there. Anything else fails again.
            Err(FirewallError::Refused { .. }) => {
                tools.run(PROGRAM, &["-f", "-"], &self.script(false)).await?;
            }
            other => drop(other?),
        }
        Ok(())
    }
}

/// What is in a family's table; nothing if there is no such table.
async fn list(tools: &Tools, family: Family, owner: &Owner) -> Result<Option<Vec<Value>>, FirewallError> {
    let name = table_name(family, owner);
    let arguments = ["-j", "list", "table", protocol(family), &name];
    match tools.run(PROGRAM, &arguments, "").await {
        Ok(printed) => listing::view(&printed).map(Some).map_err(|reason| FirewallError::Output {
            command: format!("{PROGRAM} {}", arguments.join(" ")),
            reason,
        }),
        Err(FirewallError::Refused { words, .. }) if words.contains("No such file or directory") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a table is, or becomes, that of a daemon for another network. One rule is enough: upstream fills one chain after the other in a
/// table that may be there.
pub(super) fn has_foreign_rule(view: &[Value], own: &OwnNetworks) -> bool {
    view.iter().any(|object| own.is_foreign(listing::networks(object)))
}

/// Whether a table of our name is not to be removed without having been asked for. One without rules may be about to be filled.
fn is_anothers(view: &[Value], own: &OwnNetworks) -> bool {
    own.is_known() && (view.is_empty() || has_foreign_rule(view, own))
}

/// Removes a family's tables, and says which. Without the program there is nothing to remove.
pub(super) async fn remove(
    tools: &Tools,
    family: Family,
    owners: &Owners,
    own: &OwnNetworks,
) -> Result<Vec<String>, FirewallError> {
    let owners = match owners {
        Owners::These(owners) => owners.clone(),
        Owners::All => all_owners(tools, family).await?,
    };
    let mut removed = Vec::new();
    for owner in owners {
        match list(tools, family, &owner).await {
            Ok(None) | Err(FirewallError::Missing { .. }) => continue,
            Ok(Some(view)) if is_anothers(&view, own) => continue,
            Ok(Some(_)) => {}
            Err(error) => return Err(error),
        }
        let table = format!("table {} {}", protocol(family), table_name(family, &owner));
        tools.run(PROGRAM, &["-f", "-"], &format!("delete {table}\n")).await?;
        removed.push(format!("{table} of nftables"));
    }
    Ok(removed)
}

/// Whose tables there are.
async fn all_owners(tools: &Tools, family: Family) -> Result<Vec<Owner>, FirewallError> {
    let printed = match tools.run(PROGRAM, &["list", "tables", protocol(family)], "").await {
        Err(FirewallError::Missing { .. }) => return Ok(Vec::new()),
        other => other?,
    };
    let plain = table_name(family, &Owner::default());
    let owner = |line: &str| {
        let rest = line.split_whitespace().last()?.strip_prefix(&plain)?;
        if rest.is_empty() { Some(Owner::default()) } else { rest.strip_prefix('-').map(Owner::of) }
    };
    Ok(printed.lines().filter_map(owner).collect())
}
