//! The rules as tables of our own.

pub(super) mod listing;
pub(super) mod rules;

use serde_json::Value;

use super::error::FirewallError;
use super::rules::Family;
use super::tool::Tools;
use rules::{Table, protocol, table_name};

const PROGRAM: &str = "nft";

impl Table {
    /// What is there.
    pub(super) async fn look(&self, tools: &Tools) -> Result<Vec<Value>, FirewallError> {
        Ok(list(tools, self.family).await?.unwrap_or_default())
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
async fn list(tools: &Tools, family: Family) -> Result<Option<Vec<Value>>, FirewallError> {
    let arguments = ["-j", "list", "table", protocol(family), table_name(family)];
    match tools.run(PROGRAM, &arguments, "").await {
        Ok(printed) => listing::view(&printed).map(Some).map_err(|reason| FirewallError::Output {
            command: format!("{PROGRAM} {}", arguments.join(" ")),
            reason,
        }),
        Err(FirewallError::Refused { words, .. }) if words.contains("No such file or directory") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a family's table, and says so. Without the program there is nothing to remove.
pub(super) async fn remove(tools: &Tools, family: Family) -> Result<Vec<String>, FirewallError> {
    match list(tools, family).await {
        Ok(None) | Err(FirewallError::Missing { .. }) => return Ok(Vec::new()),
        Ok(Some(_)) => {}
        Err(error) => return Err(error),
    }
    let table = format!("table {} {}", protocol(family), table_name(family));
    tools.run(PROGRAM, &["-f", "-"], &format!("delete {table}\n")).await?;
    Ok(vec![format!("{table} of nftables")])
}
