//! Everybody's leases out of everybody's nodes: told of nodes, it tells of leases, as the watch of any store does.
//!
//! A node is known by its name, and is another one when its UID is. What it has said is remembered as long as it is there: annotations that are
//! lost or spoiled take nothing away. Leases are told under their subnets, of which each is told once: of two nodes with the same CIDR one is
//! told at a time. CIDRs of different sizes that overlap are both told; the daemon believes one.
//!
//! | what a node says | its lease |
//! |---|---|
//! | it is managed, and how it is reached | in the families that are on, have a CIDR, and can be read |
//! | nothing any more | stays |
//! | it is not managed | goes |
//! | something that cannot be read | that family stays what it was |
//! | it has this node's CIDR, or one of this node's addresses | refused |

mod claims;
mod notice;
mod peer;
#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use flannel_base::Timestamp;
use flannel_lease_store::{Change, Event};
use flannel_model::lease::{Lease, Subnets};
use flannel_model::network_config::NetworkConfig;
use ipnet::IpNet;

pub use notice::{Noteworthy, Notice, Refusal};
pub use peer::State;

use crate::cidrs::{self, Cidrs};
use crate::families::Families;
use crate::prefix::Keys;
use claims::{Claims, Rank};
use flannel_kube_api::{Node, NodeEvent};
use peer::{Peer, part};

/// This node's own lease. It is told as long as the node holds it, whatever the node's object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnLease {
    /// When the node was made, RFC 3339.
    pub created: String,
    /// The lease.
    pub lease: Arc<Lease>,
    /// All addresses by which the node is reached, published or not.
    pub addresses: Vec<IpAddr>,
}

/// What comes of an event.
#[derive(Debug, Default)]
pub struct News {
    /// For who follows the leases; none if nothing is new to him.
    pub event: Option<Event>,
    /// For the operator.
    pub notices: Vec<Notice>,
}

/// How many nodes stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Served as they say.
    pub ok: usize,
    /// Served as they said before they lost their annotations.
    pub annotations_lost: usize,
    /// Served as far as they could be read, now or before.
    pub unreadable: usize,
    /// Not served: another node is reached by their CIDR.
    pub displaced: usize,
    /// Not served, with a reason.
    pub refused: usize,
    /// Not served: no CIDR yet.
    pub waiting: usize,
    /// Not served: they say that they are no peers.
    pub withdrawn: usize,
    /// Not served: no daemon has run there.
    pub unmanaged: usize,
}

/// One node, for the status.
#[derive(Clone, Copy, Debug)]
pub struct PeerStatus<'a> {
    /// Its name.
    pub name: &'a str,
    /// How things stand.
    pub state: &'a State,
    /// Its last good lease.
    pub lease: Option<&'a Arc<Lease>>,
    /// What of it is told: less if other nodes are reached by its CIDRs.
    pub served: Option<&'a Arc<Lease>>,
}

/// All nodes but this one, and their leases.
#[derive(Debug)]
pub struct PeerMap {
    keys: Keys,
    config: NetworkConfig,
    families: Families,
    own_name: Arc<str>,
    own: Option<OwnLease>,
    /// Each in a place of its own: a table of tens of thousands is half empty just after it has grown.
    peers: HashMap<Arc<str>, Box<Peer>>,
    claims: Claims,
    /// All nodes anew, as far as they have been told.
    listed: Option<Listed>,
}

/// Nodes of a list that has no end yet.
#[derive(Debug)]
struct Listed {
    peers: HashMap<Arc<str>, Box<Peer>>,
    /// What this node has been assigned; none: it is not among them, or has not been.
    assigned: Option<Subnets>,
}

impl PeerMap {
    /// Of a cluster with this network config, as seen by the node of this name, before it knows of any other.
    pub fn new(keys: Keys, config: NetworkConfig, own_name: &str) -> Self {
        Self {
            keys,
            families: Families::of(&config),
            config,
            own_name: own_name.into(),
            own: None,
            peers: HashMap::new(),
            claims: Claims::default(),
            listed: None,
        }
    }

    /// Takes what the API server tells.
    pub fn take(&mut self, event: NodeEvent) -> News {
        let mut news = News::default();
        match event {
            NodeEvent::Syncing => {
                let peers = HashMap::with_capacity(self.peers.len());
                self.listed = Some(Listed { peers, assigned: None });
            }
            NodeEvent::Synced => {
                if let Some(listed) = self.listed.take() {
                    self.sync(listed, &mut news);
                }
            }
            NodeEvent::Applied(node) if *node.name == *self.own_name => {
                let assigned = Cidrs::assigned(&node).of(self.families);
                // What it only says may be anybody's word.
                let assigned = Some(assigned).filter(|_| !node.cidrs_unverified);
                if let Some(listed) = &mut self.listed {
                    listed.assigned = assigned;
                } else if assigned.is_some_and(|assigned| self.is_lost(assigned)) {
                    return self.set_own(None);
                }
            }
            NodeEvent::Applied(node) => {
                let (name, peer) = self.read(&node);
                match &mut self.listed {
                    Some(listed) => drop(listed.peers.insert(name, peer)),
                    None => self.exchange(&name, Some(peer), &mut news),
                }
            }
            NodeEvent::Bookmark => {}
            NodeEvent::Deleted { name, uid } => {
                if let Some(listed) = &mut self.listed {
                    listed.peers.remove(&*name);
                    return news;
                }
                // Of a node that was made again by the same name the former one's end is no news.
                let is_this = |peer: &Peer| uid.is_empty() || *peer.uid == *uid;
                if let Some((name, _)) = self.peers.get_key_value(&*name).filter(|(_, peer)| is_this(peer)) {
                    let name = Arc::clone(name);
                    self.exchange(&name, None, &mut news);
                }
            }
        }
        news
    }

    /// This node holds this lease from now on; none: it holds none.
    pub fn set_own(&mut self, own: Option<OwnLease>) -> News {
        let mut news = News::default();
        if self.own == own {
            return news;
        }
        let before = self.told();
        self.own = own;
        self.judge_all(&mut news);
        news.event = changes(difference(&before, &self.told()));
        news
    }

    /// All leases, this node's too; the oldest node's first.
    pub fn leases(&self) -> Vec<Arc<Lease>> {
        let mut leases: Vec<(u64, &str, &Arc<Lease>)> = self
            .peers
            .values()
            .filter_map(|peer| Some((peer.created, &*peer.uid, peer.served.as_ref()?)))
            .chain(self.own.iter().map(|own| (seconds(&own.created), "", &own.lease)))
            .collect();
        leases.sort_unstable_by_key(|(created, uid, _)| (*created, *uid));
        leases.into_iter().map(|(_, _, lease)| Arc::clone(lease)).collect()
    }

    /// All nodes but this one, in no particular order.
    pub fn peers(&self) -> impl Iterator<Item = PeerStatus<'_>> {
        self.peers.iter().map(|(name, peer)| PeerStatus {
            name,
            state: &peer.state,
            lease: peer.lease.as_ref(),
            served: peer.served.as_ref(),
        })
    }

    /// How many nodes stand how, without this one.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for peer in self.peers.values() {
            let is_displaced = peer.claims().is_some() && peer.served.is_none();
            let count = match &peer.state {
                _ if is_displaced => &mut counts.displaced,
                State::Ok => &mut counts.ok,
                State::AnnotationsLost => &mut counts.annotations_lost,
                State::Unreadable(_) => &mut counts.unreadable,
                State::Refused(_) => &mut counts.refused,
                State::WaitingForCidr => &mut counts.waiting,
                State::Withdrawn => &mut counts.withdrawn,
                State::Unmanaged => &mut counts.unmanaged,
            };
            *count += 1;
        }
        counts
    }

    /// All nodes anew, with what is remembered of those that were there before.
    fn sync(&mut self, listed: Listed, news: &mut News) {
        if listed.assigned.is_some_and(|assigned| self.is_lost(assigned)) {
            self.own = None;
        }
        self.peers = listed.peers;
        self.judge_all(news);
        news.event = Some(Event::Snapshot(self.leases()));
    }

    /// Reads a node, beside what is known of it.
    fn read(&self, node: &Node) -> (Arc<str>, Box<Peer>) {
        let known = self.peers.get_key_value(&*node.name);
        let name = known.map_or_else(|| node.name.as_str().into(), |(name, _)| Arc::clone(name));
        let same = known.filter(|(_, peer)| *peer.uid == *node.uid);
        let mut peer = same.map_or_else(|| Peer::of(node), |(_, peer)| peer.remembered());
        peer.read(node, &self.keys, self.families);
        (name, Box::new(peer))
    }

    /// Whether this node's own object has been assigned other subnets than those of its lease, which happens when it is made again.
    fn is_lost(&self, assigned: Subnets) -> bool {
        self.own.as_ref().is_some_and(|own| assigned.iter().next().is_some() && assigned != own.lease.subnets)
    }

    /// A node is another one from now on, or none. Besides it only those can be concerned who are reached by its CIDRs, before or after.
    fn exchange(&mut self, name: &Arc<str>, mut peer: Option<Box<Peer>>, news: &mut News) {
        if let Some(peer) = &mut peer {
            self.judge(name, peer, news);
        }
        let old = self.peers.get(name).and_then(|peer| peer.claims());
        let new = peer.as_ref().and_then(|peer| peer.claims());
        let cidrs: Vec<IpNet> = old.iter().chain(&new).flat_map(Subnets::iter).collect();
        let winners = |claims: &Claims| -> Vec<Arc<str>> {
            cidrs.iter().filter_map(|cidr| claims.winner(*cidr)).cloned().collect()
        };
        let mut concerned = BTreeSet::from([Arc::clone(name)]);
        concerned.extend(winners(&self.claims));
        for cidr in old.iter().flat_map(Subnets::iter) {
            self.claims.remove(cidr, name);
        }
        let former = match peer {
            Some(peer) => self.peers.insert(Arc::clone(name), peer),
            None => self.peers.remove(name),
        };
        for cidr in new.iter().flat_map(Subnets::iter) {
            self.claims.insert(cidr, name, |name| rank(&self.peers, name));
        }
        concerned.extend(winners(&self.claims));
        // What is served of the others has not been looked at yet.
        let served = |peer: &Peer| peer.served.clone();
        let others = concerned.iter().filter(|other| *other != name);
        let before = others.filter_map(|other| served(self.peers.get(other)?));
        let before = by_subnets(before.chain(former.as_deref().and_then(served)));
        for name in &concerned {
            self.settle(name, news);
        }
        let after = concerned.iter().filter_map(|name| served(self.peers.get(name)?));
        news.event = changes(difference(&before, &by_subnets(after)));
    }

    /// Whose lease is refused, and who has which CIDR, from the beginning.
    fn judge_all(&mut self, news: &mut News) {
        let mut peers = std::mem::take(&mut self.peers);
        for (name, peer) in &mut peers {
            self.judge(name, peer, news);
        }
        self.peers = peers;
        self.claims = Claims::default();
        for (name, peer) in &self.peers {
            for cidr in peer.claims().iter().flat_map(Subnets::iter) {
                self.claims.insert(cidr, name, |name| rank(&self.peers, name));
            }
        }
        let names: Vec<Arc<str>> = self.peers.keys().cloned().collect();
        for name in names {
            self.settle(&name, news);
        }
    }

    /// How things stand with a node that has been read, beside this node.
    fn judge(&self, name: &str, peer: &mut Peer, news: &mut News) {
        let refusal = match (&self.own, &peer.lease) {
            (Some(own), Some(lease)) => self.refusal(own, lease),
            _ => None,
        };
        peer.state = refusal.map_or_else(|| peer.read.clone(), |refusal| State::Refused(Box::new(refusal)));
        let said = match &peer.state {
            State::Refused(refusal) => Some(Noteworthy::Refused((**refusal).clone())),
            State::Unreadable(reason) => Some(Noteworthy::Unreadable(reason.clone())),
            State::AnnotationsLost => Some(Noteworthy::AnnotationsLost),
            _ => None,
        };
        let outside = peer.claims().and_then(|subnets| cidrs::outside(&subnets, &self.config));
        let outside =
            outside.map(|(cidr, field, network)| Noteworthy::OutsideNetwork { cidr, field, network });
        for what in said.into_iter().chain(outside) {
            if peer.says(&what) {
                news.notices.push(Notice { node: name.to_owned(), what });
            }
        }
    }

    /// Why this node cannot have a peer with this lease.
    fn refusal(&self, own: &OwnLease, lease: &Lease) -> Option<Refusal> {
        let (theirs, ours) = (lease.subnets, own.lease.subnets);
        let own_name = || self.own_name.to_string();
        if theirs.overlaps(&ours) {
            return Some(Refusal::OverlapsOwn { theirs, ours, own: own_name() });
        }
        let address = lease.attributes.public_addresses().find(|address| own.addresses.contains(address))?;
        Some(Refusal::OwnAddress { address, own: own_name() })
    }

    /// What of a node's lease is served: the families in which it is the one that is reached by its CIDR.
    fn settle(&mut self, name: &Arc<str>, news: &mut News) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        let Some(claimed) = peer.claims() else {
            peer.served = None;
            return;
        };
        let mut lost = None;
        let mut wins = |cidr: Option<IpNet>| {
            let other = cidr.and_then(|cidr| Some((cidr, self.claims.winner(cidr)?)));
            lost = lost.take().or(other.filter(|(_, winner)| *winner != name));
            other.is_some_and(|(_, winner)| winner == name)
        };
        let (v4, v6) = (wins(claimed.v4.map(IpNet::V4)), wins(claimed.v6.map(IpNet::V6)));
        peer.served = peer.lease.as_ref().and_then(|lease| part(lease, v4, v6));
        if let Some((cidr, other)) = lost {
            let what = Noteworthy::SameCidr { cidr, other: other.to_string() };
            if peer.says(&what) {
                news.notices.push(Notice { node: name.to_string(), what });
            }
        }
    }

    /// All that is told, by its subnets.
    fn told(&self) -> BTreeMap<Subnets, Arc<Lease>> {
        let own = self.own.iter().map(|own| &own.lease);
        by_subnets(self.peers.values().filter_map(|peer| peer.served.as_ref()).chain(own).cloned())
    }
}

fn rank<'a>(peers: &'a HashMap<Arc<str>, Box<Peer>>, name: &str) -> Rank<'a> {
    peers.get(name).map(|peer| peer.rank()).unwrap_or_default()
}

fn seconds(time: &str) -> u64 {
    time.parse::<Timestamp>().unwrap_or_default().seconds()
}

fn by_subnets(leases: impl Iterator<Item = Arc<Lease>>) -> BTreeMap<Subnets, Arc<Lease>> {
    leases.map(|lease| (lease.subnets, lease)).collect()
}

/// What turns one map of leases into another: what goes first.
fn difference(before: &BTreeMap<Subnets, Arc<Lease>>, after: &BTreeMap<Subnets, Arc<Lease>>) -> Vec<Change> {
    let gone =
        before.keys().filter(|subnets| !after.contains_key(subnets)).map(|gone| Change::Removed(*gone));
    let put = after.iter().filter(|(subnets, lease)| before.get(subnets) != Some(lease));
    gone.chain(put.map(|(_, lease)| Change::Put(Arc::clone(lease)))).collect()
}

fn changes(changes: Vec<Change>) -> Option<Event> {
    (!changes.is_empty()).then_some(Event::Changes(changes))
}
