//! Following all leases in etcd: a snapshot, then the changes from there on, over broken connections and compactions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{Client, EventType, GetOptions, WatchOptions, WatchResponse, WatchStream};
use flannel_base::LogThrottle;
use flannel_base::text::excerpt;
use flannel_model::codec;
use flannel_model::lease::{Lease, Subnets};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::EtcdStore;
use super::cluster::{ANSWER, Cluster, Failure, OUT_OF_RANGE};
use super::read::{Entry, Listing, MAX_LISTING_BYTES};
use crate::store::{Change, Event, RECONNECT, as_long_as_heard};

/// How often the log repeats that the watch is broken.
pub(super) const REMIND: Duration = Duration::from_mins(1);

pub(super) fn start(store: EtcdStore) -> Receiver<Event> {
    as_long_as_heard(move |sender| async move {
        let known = HashMap::new();
        Follower { store, sender, known, at: None, stale: true, lively: false }.follow().await;
    })
}

/// Up to where the receiver knows everything.
pub(super) struct Cursor {
    pub(super) revision: i64,
    pub(super) cluster: u64,
}

impl Cursor {
    /// Whether a message continues what is known up to here.
    pub(super) fn check(&self, message: &WatchResponse) -> Result<(), Ended> {
        if message.compact_revision() != 0 {
            return Err(Ended::Stale("the changes since the last one are compacted".to_owned()));
        }
        if message.canceled() {
            let reason = format!("etcd cancelled the watch: {:?}", message.cancel_reason());
            return Err(Ended::Broken(Failure::Away(reason)));
        }
        let Some(header) = message.header() else {
            return Err(Ended::Stale("a message without a revision".to_owned()));
        };
        // A watch at a revision that is yet to come would be silent until then.
        if header.cluster_id() != self.cluster || header.revision() < self.revision {
            return Err(Ended::Stale("etcd has other data than before".to_owned()));
        }
        Ok(())
    }
}

struct Follower {
    store: EtcdStore,
    sender: Sender<Event>,
    /// What the receiver knows: what an entry was before it turned unreadable, and what there is to remove.
    known: HashMap<Subnets, Known>,
    /// None: nothing is known yet.
    at: Option<Cursor>,
    /// A snapshot is needed.
    stale: bool,
    /// Whether etcd has answered since the last failure.
    lively: bool,
}

/// An entry as it was read last.
struct Known {
    lease: Arc<Lease>,
    /// When its key came into being, and when it was written last: another history has others.
    create_revision: i64,
    mod_revision: i64,
}

/// Why a stream of changes ended.
pub(super) enum Ended {
    /// Changes are lost, or the data is another: a snapshot is needed.
    Stale(String),
    /// The connection broke, or etcd ended the stream.
    Broken(Failure),
    /// Nobody listens any more.
    Unheard,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused { code: OUT_OF_RANGE, reason } => Self::Stale(reason),
            failure => Self::Broken(failure),
        }
    }
}

/// Opens a watch, and waits for etcd's first message.
pub(super) async fn open(
    cluster: &Cluster,
    member: usize,
    client: Client,
    key: String,
    options: WatchOptions,
) -> Result<(WatchStream, Option<WatchResponse>), Failure> {
    let mut client = client.watch_client().max_decoding_message_size(MAX_LISTING_BYTES);
    let opened = Box::pin(async {
        let mut stream = client.watch(key, Some(options)).await?;
        let first = stream.message().await?;
        Ok((stream, first))
    });
    match timeout(ANSWER, opened).await {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error)) => Err(cluster.failure(member, &error)),
        Err(_) => Err(cluster.late(member)),
    }
}

impl Follower {
    async fn follow(&mut self) {
        let mut failures = 0;
        // Of several members each has its own words: one line a while is enough for all.
        let mut throttle = LogThrottle::new(Some(REMIND));
        loop {
            self.lively = false;
            let ended = match self.once().await {
                Ok(never) => match never {},
                Err(ended) => ended,
            };
            if self.lively {
                failures = 0;
                throttle.reset();
            }
            match ended {
                Ended::Unheard => return,
                Ended::Stale(reason) => {
                    debug!(reason, "leases are read from etcd anew");
                    self.stale = true;
                }
                Ended::Broken(failure) => {
                    let (Failure::Away(reason) | Failure::Refused { reason, .. }) = failure;
                    if throttle.says("broken", Instant::now()) {
                        warn!(
                            "the watch of leases in etcd is broken: {reason}; going on with what is known, and trying again"
                        );
                    }
                }
            }
            sleep(RECONNECT.after(failures)).await;
            failures = failures.saturating_add(1);
        }
    }

    /// Follows until something ends it.
    async fn once(&mut self) -> Result<std::convert::Infallible, Ended> {
        if self.stale {
            let listing = self.store.list().await?;
            self.lively = true;
            self.take(listing).await?;
        } else {
            self.compare_histories().await?;
        }
        let (member, client) = self.store.cluster.client().await;
        let result = match client {
            Ok(client) => self.stream(member, client).await,
            Err(failure) => Err(failure.into()),
        };
        if matches!(result, Err(Ended::Broken(_))) {
            self.store.cluster.leave(member);
        }
        result
    }

    /// Whether etcd, which was away, still has the history that the cursor belongs to: it may have come back empty, and its new
    /// revisions may be greater than the old ones by now. An entry that is known was written when it was written.
    async fn compare_histories(&self) -> Result<(), Ended> {
        let (Some(at), Some((subnets, witness))) = (&self.at, self.known.iter().next()) else {
            return Err(Ended::Stale("nothing is known that could be compared".to_owned()));
        };
        let then = GetOptions::new().with_revision(at.revision).with_keys_only();
        let response = self.store.get(self.store.keys.of(subnets), then).await?;
        if response.kvs().first().map(etcd_client::KeyValue::mod_revision) != Some(witness.mod_revision) {
            return Err(Ended::Stale("etcd has another history than before".to_owned()));
        }
        Ok(())
    }

    /// Whether a listing is of data that is not what followed on the data that are known.
    fn is_of_another_history(&self, listing: &Listing) -> bool {
        let Some(at) = &self.at else { return false };
        if listing.cluster != at.cluster || listing.revision < at.revision {
            return true;
        }
        let survives = |entry: &Entry| {
            self.known.get(&entry.subnets).is_some_and(|known| known.create_revision == entry.create_revision)
        };
        !self.known.is_empty() && !listing.entries.iter().any(survives)
    }

    async fn take(&mut self, listing: Listing) -> Result<(), Ended> {
        let bereft = self.is_of_another_history(&listing);
        let mut known = HashMap::with_capacity(listing.entries.len());
        let mut contested = Vec::new();
        for entry in listing.entries {
            let readable = entry.attributes.is_some();
            contested.extend(self.store.own.foreign(
                &entry.subnets,
                entry.mod_revision,
                entry.lease,
                readable,
            ));
            let (create_revision, mod_revision) = (entry.create_revision, entry.mod_revision);
            let lease = match entry.attributes {
                Some(_) => entry.into_lease().map(Arc::new),
                None => self.known.get(&entry.subnets).map(|known| Arc::clone(&known.lease)),
            };
            if let Some(lease) = lease {
                known.insert(lease.subnets, Known { lease, create_revision, mod_revision });
            }
        }
        self.known = known;
        self.at = Some(Cursor { revision: listing.revision, cluster: listing.cluster });
        self.stale = false;
        let mut known: Vec<&Known> = self.known.values().collect();
        known.sort_unstable_by_key(|known| known.create_revision);
        let leases = known.into_iter().map(|known| Arc::clone(&known.lease)).collect();
        let event = if bereft {
            warn!(
                "etcd has lost its data: leases that are missing in it are held until their nodes write again"
            );
            Event::StoreReset(leases)
        } else {
            Event::Snapshot(leases)
        };
        self.sender.send(event).await.map_err(|_| Ended::Unheard)?;
        if contested.is_empty() {
            return Ok(());
        }
        self.sender.send(Event::Changes(contested)).await.map_err(|_| Ended::Unheard)
    }

    async fn stream(&mut self, member: usize, client: Client) -> Result<std::convert::Infallible, Ended> {
        let from = self.at.as_ref().map_or(0, |at| at.revision) + 1;
        let keys = &self.store.keys;
        let options = WatchOptions::new()
            .with_range(keys.subnets_end())
            .with_start_revision(from)
            .with_progress_notify();
        let (mut stream, first) =
            open(&self.store.cluster, member, client, keys.subnets.clone(), options).await?;
        let mut response = first;
        loop {
            let Some(message) = response else {
                return Err(Ended::Broken(Failure::Away("etcd ended the stream".to_owned())));
            };
            self.heard(&message).await?;
            response = self.next(&mut stream, member).await?;
        }
    }

    /// The next message. A connection that died is noticed by its keep-alive probes.
    async fn next(&self, stream: &mut WatchStream, member: usize) -> Result<Option<WatchResponse>, Ended> {
        stream.message().await.map_err(|error| self.store.cluster.failure(member, &error).into())
    }

    async fn heard(&mut self, message: &WatchResponse) -> Result<(), Ended> {
        let (Some(at), Some(header)) = (self.at.as_mut(), message.header()) else {
            return Err(Ended::Stale("a message without a revision".to_owned()));
        };
        at.check(message)?;
        self.lively = true;
        match message
            .events()
            .iter()
            .filter_map(etcd_client::Event::kv)
            .map(etcd_client::KeyValue::mod_revision)
            .max()
        {
            Some(revision) => at.revision = at.revision.max(revision),
            // No events: etcd says that there are none up to here. The first message only says that the watch is there.
            None if !message.created() => at.revision = header.revision(),
            None => {}
        }
        let mut changes = Vec::new();
        for event in message.events() {
            let change = self.change(event);
            if let Some(kv) = event.kv().filter(|_| event.event_type() == EventType::Put) {
                let subnets =
                    self.store.keys.name(kv.key()).and_then(|name| codec::parse_key_name(name).ok());
                let foreign = |subnets| {
                    self.store.own.foreign(&subnets, kv.mod_revision(), kv.lease(), change.is_some())
                };
                changes.extend(subnets.and_then(foreign));
            }
            changes.extend(change);
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.sender.send(Event::Changes(changes)).await.map_err(|_| Ended::Unheard)
    }

    /// Reads an event. One that cannot be read changes nothing, not even the lease whose entry it overwrote.
    fn change(&mut self, event: &etcd_client::Event) -> Option<Change> {
        let kv = event.kv()?;
        let Some(name) = self.store.keys.name(kv.key()) else {
            warn!(
                key = excerpt(&String::from_utf8_lossy(kv.key())),
                "a change in etcd is left out: its key is not UTF-8"
            );
            return None;
        };
        match event.event_type() {
            EventType::Put => match codec::read_entry(name, kv.value()) {
                Ok((subnets, attributes)) => {
                    let lease = Arc::new(Lease { subnets, attributes, expires: None });
                    let known = Known {
                        lease: Arc::clone(&lease),
                        create_revision: kv.create_revision(),
                        mod_revision: kv.mod_revision(),
                    };
                    self.known.insert(subnets, known);
                    Some(Change::Put(lease))
                }
                Err(error) => {
                    warn!(key = excerpt(name), "a change in etcd is left out: {error}");
                    None
                }
            },
            EventType::Delete => {
                let subnets =
                    codec::parse_key_name(name).ok().filter(|subnets| codec::key_name(subnets) == name)?;
                self.known.remove(&subnets).map(|_| Change::Removed(subnets))
            }
        }
    }
}
