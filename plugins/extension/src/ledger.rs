//! For which peers the commands have been run, in this run of the daemon and in those before.

use std::collections::BTreeMap;

use flannel_backend::serde_json::{self, Map, Value};
use flannel_backend::{log, state};

use super::peer::Peer;

/// In how many of the durable store's values peers are, and bytes that one may have.
const PAGES: u32 = 64;
const PAGE: usize = 16 << 10;

/// How a peer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Added by an earlier run, as far as is known.
    Former(Peer),
    /// Added.
    Added(Peer),
    /// It was tried to add it.
    Failed(Peer),
}

impl Standing {
    /// The peer, as the command was told of it.
    pub fn peer(&self) -> &Peer {
        match self {
            Self::Former(peer) | Self::Added(peer) | Self::Failed(peer) => peer,
        }
    }
}

/// Peers by their subnets.
pub struct Ledger {
    peers: BTreeMap<String, Standing>,
    /// It was said that there is no room for all of them.
    is_full: bool,
}

impl Ledger {
    /// What an earlier run has left.
    pub fn read() -> Result<Self, String> {
        let mut peers = BTreeMap::new();
        for page in 0..PAGES {
            let Some(bytes) = state::get(&name(page))? else { continue };
            // What cannot be read is as if it were not there: the peers are added anew.
            let Ok(all) = serde_json::from_slice::<Map<String, Value>>(&bytes) else { continue };
            let read = all
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), Standing::Former(Peer::from_json(value)?))));
            peers.extend(read);
        }
        Ok(Self { peers, is_full: false })
    }

    /// How one stands.
    pub fn get(&self, key: &str) -> Option<&Standing> {
        self.peers.get(key)
    }

    /// Those of an earlier run that have not turned up.
    pub fn former(&self) -> Vec<String> {
        let former = self.peers.iter().filter(|(_, standing)| matches!(standing, Standing::Former(_)));
        former.map(|(key, _)| key.clone()).collect()
    }

    /// All of them.
    pub fn all(&self) -> Vec<String> {
        self.peers.keys().cloned().collect()
    }

    /// Whether one could not be added.
    pub fn has_failed(&self, key: &str) -> bool {
        matches!(self.peers.get(key), Some(Standing::Failed(_)))
    }

    /// One stands so now.
    pub fn set(&mut self, key: &str, standing: Standing) -> Result<(), String> {
        let before = self.peers.insert(key.to_owned(), standing);
        // All of them are read as former ones.
        if before.as_ref().map(Standing::peer) == self.peers.get(key).map(Standing::peer) {
            return Ok(());
        }
        self.write(page_of(key))
    }

    /// Forgets one.
    pub fn take(&mut self, key: &str) -> Result<Option<Standing>, String> {
        let taken = self.peers.remove(key);
        if taken.is_some() {
            self.write(page_of(key))?;
        }
        Ok(taken)
    }

    /// Knows one without writing it down.
    #[cfg(test)]
    pub fn hold(&mut self, key: &str, peer: Peer) {
        self.peers.insert(key.to_owned(), Standing::Added(peer));
    }

    fn write(&mut self, page: u32) -> Result<(), String> {
        let (mut kept, mut bytes) = (Map::new(), 2);
        for (key, standing) in self.peers.iter().filter(|(key, _)| page_of(key) == page) {
            let value = standing.peer().to_json();
            // Both in quotes, and a colon and a comma.
            bytes += Value::from(key.as_str()).to_string().len() + value.to_string().len() + 2;
            if bytes > PAGE {
                if !std::mem::replace(&mut self.is_full, true) {
                    log::warn("there are too many peers to remember all of them over a restart", &[]);
                }
                break;
            }
            kept.insert(key.clone(), value);
        }
        let text = (!kept.is_empty()).then(|| Value::from(kept).to_string());
        Ok(state::set(&name(page), text.as_ref().map(String::as_bytes))?)
    }
}

fn name(page: u32) -> String {
    format!("peers-{page}")
}

/// The same each time, and spread (FNV-1a).
fn page_of(key: &str) -> u32 {
    let hash =
        key.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash >> 16) % PAGES
}
