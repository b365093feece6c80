//! Masquerading and forwarding: the firewall rules without which pods reach neither the outside nor, where the policy is to
//! drop, each other. The entry point is [`Firewall`].
//!
//! The rules, their chains, tables and comments are upstream's, because other programs look for them, and upstream's own
//! clean-up does. They are one of two sets, `iptables` or `nftables`; the other set is removed. What differs from upstream:
//!
//! - Each set is compared with what is there, as a whole and in order, and touched only if it differs; then it is replaced
//!   in one transaction. At no moment are packets without masquerading, and a second start changes nothing.
//! - Both sets are kept against whoever flushes, changes or reorders them: at once where the kernel tells (everything that
//!   goes through nf_tables, which includes today's `iptables`), and in any case after each resync interval.
//! - The `nftables` set means what the `iptables` set means. Upstream compares the whole mark with `0x4000` where one bit of
//!   it is meant, and its fourth rule returns for everything from outside of the own subnet to the cluster, so that the
//!   sixth, which masquerades what the host itself sends to the pods of others, is never reached. Here it is
//!   `saddr != cluster daddr own-subnet return`, as in `iptables`.
//! - Rules that are no longer wanted (a family, masquerading, forwarding) are removed. So are all rules of the other set,
//!   with their jumps, in `filter` as well as in `nat`, and the rules with our comments that flannel before v0.20 put into
//!   the built-in chains.
//! - A program that is not installed has no rules that could be cleaned up.
//! - Rules for other networks than this cluster's are those of an upstream daemon that runs beside this one. In the chains of iptables, which
//!   upstream's daemons share, they stay where they are. A table of nftables has one owner: this daemon takes one of another name.

#![warn(unreachable_pub)]

mod bridge;
mod error;
mod iptables;
mod keeper;
mod nftables;
mod ownership;
mod rules;
mod sources;
#[cfg(test)]
mod tests;
mod tool;
mod watch;

pub use bridge::bridge_netfilter_missing;
pub use error::FirewallError;
pub use rules::{FamilyRules, Mode, Owner, Rules};
pub use sources::{SourcesStatus, Tunnel, TunnelSources};

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use keeper::{Cleaning, FirewallReconciler};
use ownership::OwnNetworks;
use tool::Tools;

/// How the rules stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallStatus {
    /// What the rules are made with.
    pub mode: Mode,
    /// Whether all rules that are wanted were in place at the last look.
    pub ok: bool,
    /// What has failed and is being tried again: own rules, or the removal of those that are not wanted.
    pub last_error: Option<String>,
    /// How often rules that others had removed or changed were put back.
    pub repairs: u64,
}

/// The rules, and the task that keeps them. Dropping it ends the task and leaves the rules.
pub struct Firewall {
    commands: mpsc::Sender<Command>,
    status: Arc<Mutex<FirewallStatus>>,
    task: JoinHandle<()>,
}

struct Command {
    rules: Rules,
    answer: oneshot::Sender<Result<(), FirewallError>>,
}

impl Firewall {
    /// Puts the rules in place, removes those that are not wanted, and keeps it so, with a look after each `resync`.
    ///
    /// It fails only if masquerading is wanted and cannot be had. Forward rules alone are an improvement that a node can do
    /// without: their failure is logged, shown in the status, and tried again. So is that of a clean-up.
    ///
    /// Programs are started, and the kernel is listened to, in the network namespace of the thread that runs this future
    /// and the task: that of the process, unless somebody takes pains.
    pub async fn start(mode: Mode, rules: Rules, resync: Duration) -> Result<Self, FirewallError> {
        Self::start_with(Tools::default(), mode, rules, resync).await
    }

    async fn start_with(
        tools: Tools,
        mode: Mode,
        rules: Rules,
        resync: Duration,
    ) -> Result<Self, FirewallError> {
        let status = Arc::new(Mutex::new(FirewallStatus { mode, ok: false, last_error: None, repairs: 0 }));
        let mut keeper = FirewallReconciler::new(tools, mode, resync, Arc::clone(&status));
        keeper.set(&rules).await?;
        let (commands, inbox) = mpsc::channel(1);
        let task = tokio::spawn(keeper.run(inbox));
        Ok(Self { commands, status, task })
    }

    /// Replaces the rules: the node has moved to another subnet. Fails as [`Firewall::start`] does, but the new rules are
    /// tried again all the same.
    pub async fn set(&self, rules: Rules) -> Result<(), FirewallError> {
        let (answer, result) = oneshot::channel();
        self.commands.send(Command { rules, answer }).await.map_err(|_| FirewallError::Stopped)?;
        result.await.map_err(|_| FirewallError::Stopped)?
    }

    /// How the rules stand.
    pub fn status(&self) -> FirewallStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Removes all rules of one mode, of whatever daemon, on request. Returns what it has removed, one line for each chain or table.
pub async fn remove(mode: Mode) -> Result<Vec<String>, FirewallError> {
    remove_with(&Tools::default(), mode).await
}

/// Removes all rules of both modes, on request. Returns what it has removed. The second mode is cleaned up even if the first
/// fails.
pub async fn remove_all() -> Result<Vec<String>, FirewallError> {
    let iptables = remove(Mode::Iptables).await;
    let nftables = remove(Mode::Nftables).await;
    let mut removed = iptables?;
    removed.extend(nftables?);
    Ok(removed)
}

async fn remove_with(tools: &Tools, mode: Mode) -> Result<Vec<String>, FirewallError> {
    let (mut removed, mut failure) = (Vec::new(), None);
    for cleaning in Cleaning::all_of(mode, &rules::Owners::All, &OwnNetworks::default()) {
        match cleaning.run(tools).await {
            Ok(lines) => removed.extend(lines),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        None => Ok(removed),
        Some(error) => Err(error),
    }
}
