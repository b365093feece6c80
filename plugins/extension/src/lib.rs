//! The extension backend: how peers are reached is up to commands of the operator's, from the network config, as upstream has it. One is run
//! when the node starts, and what it writes is published; one when the node has its lease; and one for each peer that comes, changes or goes.
//!
//! Beyond upstream: one that has failed for a peer is run again later, a peer that has changed is removed first as it was, and what an earlier
//! run has added and nobody needs any more is removed.

mod ledger;
mod peer;
mod script;

use std::collections::BTreeMap;
use std::time::Duration;

use flannel_backend::ipnet::{Ipv4Net, Ipv6Net};
use flannel_backend::{
    Config, Lease, Node, PeerId, Policy, Registration, Retire, clock, log, peers, serde_json,
};

use ledger::{Ledger, Standing};
use peer::Peer;
use script::Script;

/// How often it is looked whether there is something to do.
const INTERVAL: Duration = Duration::from_secs(5);
/// Waits before what has failed is tried again: twice as long each time.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// How long after the first look peers of an earlier run may still turn up.
const GRACE: Duration = Duration::from_secs(20);
/// Peers that are removed in one call, at most: a command may take its time.
const REMOVALS: usize = 16;
/// Peers that may be asked for in one call.
const AGAIN: usize = 65_536;
/// Bytes of what may be published.
const PUBLISHED: usize = 64 << 10;

/// The policy.
struct ExtensionPolicy {
    post: Option<Script>,
    add: Option<Script>,
    remove: Option<Script>,
    /// The cluster's networks, and this node's published addresses, as commands are told of them.
    node: Vec<(&'static str, String)>,
    /// The subnets with which the command after the start has been run.
    started: Option<(Option<Ipv4Net>, Option<Ipv6Net>)>,
    /// Which of the peers a number is.
    peers: BTreeMap<PeerId, String>,
    ledger: Ledger,
    /// Attempts in a row after which something had still failed.
    attempts: u32,
    /// When peers of an earlier run do not turn up any more; none: there was no look yet.
    complete: Option<Duration>,
}

impl Policy for ExtensionPolicy {
    const NAME: &'static str = "extension";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["extension"];

    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        let [pre, post, add, remove] = Script::NAMES.map(|name| Script::of(config, name));
        let (pre, post, add, remove) = (pre?, post?, add?, remove?);
        if add.is_none() {
            log::warn("there is no SubnetAddCommand: nothing is done for peers", &[]);
        }
        let backend_data = pre.map(|pre| published(&pre)).transpose()?;
        let policy = Self {
            post,
            add,
            remove,
            node: vec![
                ("NETWORK", shown(node.ipv4_network)),
                ("IPV6NETWORK", shown(node.ipv6_network)),
                ("PUBLIC_IP", shown(node.public_ipv4)),
                ("PUBLIC_IPV6", shown(node.public_ipv6)),
            ],
            started: None,
            peers: BTreeMap::new(),
            ledger: Ledger::read()?,
            attempts: 0,
            complete: None,
        };
        let registration = Registration {
            backend_type: Self::NAME.to_owned(),
            backend_data,
            mtu: node.external.mtu,
            ..Registration::default()
        };
        Ok((policy, registration))
    }

    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let subnets = (own.ipv4_subnet, own.ipv6_subnet);
        if self.started == Some(subnets) {
            return Ok(());
        }
        if let Some(post) = &self.post {
            let mut environment = self.node.clone();
            environment.push(("SUBNET", shown(own.ipv4_subnet)));
            environment.push(("IPV6SUBNET", shown(own.ipv6_subnet)));
            let said = post.run(&environment, "")?;
            log::info("PostStartupCommand has run", &[("output", &script::line(&said))]);
        }
        self.started = Some(subnets);
        Ok(())
    }

    fn put(&mut self, id: PeerId, lease: &Lease) -> Result<(), String> {
        let peer = if lease.backend_type == Self::NAME { Peer::of(lease).map(Some) } else { Ok(None) };
        let key = Peer::key_of(lease);
        self.peers.insert(id, key.clone());
        match peer {
            Ok(Some(peer)) => self.serve(&key, peer),
            Ok(None) => self.forget(&key),
            Err(reason) => self.forget(&key).and(Err(reason)),
        }
    }

    fn removed(&mut self, id: PeerId) {
        if let Some(key) = self.peers.remove(&id)
            && let Err(error) = self.forget(&key)
        {
            log::error("what was added cannot be forgotten", &[("peer", &key), ("error", &error)]);
        }
    }

    /// Peers that have failed are tried in [`Policy::put`]: the host is asked for them.
    fn tick(&mut self) -> Result<Option<Duration>, String> {
        let now = clock::monotonic();
        let complete = *self.complete.get_or_insert(now + GRACE);
        if now >= complete {
            let gone = self.ledger.former();
            for key in gone.iter().take(REMOVALS) {
                self.forget(key)?;
            }
        }
        let failed = self.peers.iter().filter(|(_, key)| self.ledger.has_failed(key));
        let failed: Vec<PeerId> = failed.map(|(id, _)| *id).take(AGAIN).collect();
        if failed.is_empty() {
            self.attempts = 0;
            return Ok(Some(INTERVAL));
        }
        peers::refresh(&failed)?;
        let wait = RETRY.0.saturating_mul(1 << self.attempts.min(16)).min(RETRY.1);
        self.attempts += 1;
        Ok(Some(wait))
    }
}

impl Retire for ExtensionPolicy {
    fn retire(&mut self) -> Result<Option<Duration>, String> {
        let all = self.ledger.all();
        for key in all.iter().take(REMOVALS) {
            self.forget(key)?;
        }
        Ok((all.len() > REMOVALS).then_some(Duration::from_millis(100)))
    }
}

impl ExtensionPolicy {
    /// Sees to it that a peer has been added as it is now.
    fn serve(&mut self, key: &str, peer: Peer) -> Result<(), String> {
        let added = match self.ledger.get(key) {
            Some(Standing::Added(before)) if *before == peer => return Ok(()),
            Some(Standing::Added(before)) => {
                self.remove(key, before, true);
                self.add(&peer)
            }
            // The kernel may have all of it, or nothing after a reboot: whether it is there, the command alone can say.
            Some(Standing::Former(before)) if *before == peer => self.add(&peer).or_else(|_| {
                self.remove(key, &peer, false);
                self.add(&peer)
            }),
            // Of what it was, or of what has failed, something may be there.
            Some(Standing::Former(before) | Standing::Failed(before)) => {
                self.remove(key, before, false);
                self.add(&peer)
            }
            None => self.add(&peer),
        };
        match added {
            Ok(()) => self.ledger.set(key, Standing::Added(peer)),
            Err(reason) => {
                if !matches!(self.ledger.get(key), Some(Standing::Failed(_))) {
                    self.attempts = 0;
                }
                self.ledger.set(key, Standing::Failed(peer))?;
                Err(reason)
            }
        }
    }

    fn add(&self, peer: &Peer) -> Result<(), String> {
        let Some(add) = &self.add else { return Ok(()) };
        let said = add.run(&peer.environment(), &peer.data)?;
        log::debug("SubnetAddCommand has run", &[("peer", &peer.shown()), ("output", &script::line(&said))]);
        Ok(())
    }

    /// Removes what was added for a peer, and forgets it: once, as upstream does, since nobody knows what it means when that fails.
    fn forget(&mut self, key: &str) -> Result<(), String> {
        let Some(standing) = self.ledger.take(key)? else { return Ok(()) };
        let is_whole = matches!(standing, Standing::Added(_));
        self.remove(key, standing.peer(), is_whole);
        Ok(())
    }

    /// `is_whole`: it was added, and all of it should be there.
    fn remove(&self, key: &str, peer: &Peer, is_whole: bool) {
        let Some(remove) = &self.remove else { return };
        match remove.run(&peer.environment(), &peer.data) {
            Ok(said) => {
                log::debug("SubnetRemoveCommand has run", &[("peer", key), ("output", &script::line(&said))]);
            }
            Err(error) if is_whole => log::warn("a peer is not removed", &[("peer", key), ("error", &error)]),
            Err(error) => log::debug("there was nothing to remove", &[("peer", key), ("error", &error)]),
        }
    }
}

/// What the command before the start says, which the others are told.
fn published(pre: &Script) -> Result<String, String> {
    let said = pre.run(&[], "")?;
    log::info("PreStartupCommand has run", &[("output", &script::line(&said))]);
    let text = serde_json::Value::from(said).to_string();
    if text.len() > PUBLISHED {
        return Err(format!(
            "PreStartupCommand has written {} bytes, which are published: at most {PUBLISHED} are possible",
            text.len()
        ));
    }
    Ok(text)
}

fn shown(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

flannel_backend::export!(ExtensionPolicy);
flannel_backend::retirement!(ExtensionPolicy);

#[cfg(test)]
mod tests;
