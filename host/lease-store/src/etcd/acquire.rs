//! Taking and renewing a lease in etcd, by transactions on what was read.

use std::time::{Duration, SystemTime};

use etcd_client::{
    Compare, CompareOp, GetOptions, LeaseTimeToLiveOptions, PutOptions, Txn, TxnOp, TxnOpResponse,
    TxnResponse,
};
use flannel_model::codec;
use flannel_model::lease::{Attributes, Lease, Subnets};
use tracing::{debug, info, warn};

use super::EtcdStore;
use super::cluster::Failure;
use super::read::{Entry, Listing, MAX_LISTING_BYTES};
use crate::allocate::{self, random};
use crate::store::{Acquire, LEASE_TTL, Renewed, StoreError};

/// How often everything is read anew before it is given up for now.
const MAX_READ_ATTEMPTS: u32 = 20;
/// How many times others may be faster with new leases between two readings: each time one of them has got its lease.
const MAX_CONFLICTS: u32 = 1_000;
/// The longest wait after a defeat, so that those who wait do not all come at once again.
const JITTER_MS: u64 = 40;

/// An etcd lease, and when it ends.
struct Granted {
    id: i64,
    expires: SystemTime,
}

impl EtcdStore {
    pub(super) async fn acquire_lease(&self, request: &Acquire) -> Result<Lease, StoreError> {
        allocate::check(request)?;
        if let Some(lease) = self.take_up_previous(request).await? {
            return Ok(lease);
        }
        for _ in 0..MAX_READ_ATTEMPTS {
            let listing = self.list().await?;
            let is_own = |entry: &&Entry| {
                entry.attributes.as_ref().is_some_and(|attributes| allocate::is_own(request, attributes))
            };
            let own: Vec<&Entry> = listing.entries.iter().filter(is_own).collect();
            let fits = |entry: &&&Entry| allocate::compatible(&request.config, &entry.subnets);
            let lease = if let Some(entry) = own.iter().find(fits) {
                info!(subnet = %entry.subnets, "this node has a lease already");
                self.take_up(entry, request).await?
            } else if self.remove_unfit(&own).await? {
                continue;
            } else {
                self.create(request, listing).await?
            };
            if let Some(lease) = lease {
                return Ok(lease);
            }
            jitter().await;
        }
        Err(unsettled())
    }

    /// The short way: the lease of the previous subnets, if it is this node's. Then nothing else need be read.
    async fn take_up_previous(&self, request: &Acquire) -> Result<Option<Lease>, Failure> {
        let Some(previous) =
            request.previous.filter(|subnets| allocate::compatible(&request.config, subnets))
        else {
            return Ok(None);
        };
        let response = self.get(self.keys.of(&previous), GetOptions::new()).await?;
        let entry = response.kvs().first().and_then(|kv| self.keys.entry(kv));
        let is_own = |entry: &Entry| entry.attributes.as_ref().is_some_and(|a| allocate::is_own(request, a));
        match entry.filter(is_own) {
            Some(entry) => {
                info!(subnet = %entry.subnets, "this node has a lease already");
                self.take_up(&entry, request).await
            }
            None => Ok(None),
        }
    }

    /// Takes up the node's own lease with new attributes; none: it has changed meanwhile.
    async fn take_up(&self, entry: &Entry, request: &Acquire) -> Result<Option<Lease>, Failure> {
        let lease = Lease { subnets: entry.subnets, attributes: request.attributes.clone(), expires: None };
        if entry.lease == 0 {
            return Ok(self.put_if(entry.mod_revision, &lease, None).await?.then_some(lease));
        }
        Ok(self
            .reattach(entry.mod_revision, entry.lease, &lease)
            .await?
            .map(|expires| Lease { expires: Some(expires), ..lease }))
    }

    /// Removes leases of this node that do not fit the config any more. Says whether something has changed, so that all must
    /// be read anew. A reservation is the operator's to remove.
    async fn remove_unfit(&self, own: &[&Entry]) -> Result<bool, Failure> {
        let mut changed = false;
        for entry in own {
            let key = self.keys.of(&entry.subnets);
            if entry.lease == 0 {
                warn!(
                    key,
                    "a reservation for this node does not fit the network config: another subnet is taken, remove the key"
                );
                continue;
            }
            info!(subnet = %entry.subnets, "this node's lease does not fit the network config: it is given back");
            let unchanged = vec![Compare::mod_revision(key.clone(), CompareOp::Equal, entry.mod_revision)];
            self.transact(&Txn::new().when(unchanged).and_then(vec![TxnOp::delete(key, None)])).await?;
            changed = true;
        }
        Ok(changed)
    }

    /// Writes a new lease, on the condition that no other lease has come since the last reading: then nothing can overlap it,
    /// in neither family and of no length. Renewals of others do not count. Where one has come, the answer brings it along.
    /// None: all must be read anew.
    async fn create(&self, request: &Acquire, listing: Listing) -> Result<Option<Lease>, StoreError> {
        let mut revision = listing.revision;
        let mut leased: Vec<Subnets> = listing.entries.into_iter().map(|entry| entry.subnets).collect();
        let granted = self.grant().await?;
        for defeats in 0..MAX_CONFLICTS {
            let subnets = match allocate::choose(request, leased.iter()) {
                Ok(subnets) => subnets,
                Err(error) => {
                    self.discard(granted.id).await;
                    // Others may have given back theirs since the reading.
                    return if defeats > 0 { Ok(None) } else { Err(error) };
                }
            };
            let key = self.keys.of(&subnets);
            let all = |compare: Compare| compare.with_range(self.keys.subnets_end());
            let conditions = vec![
                Compare::version(key.clone(), CompareOp::Equal, 0),
                all(Compare::create_revision(self.keys.subnets.clone(), CompareOp::Less, revision + 1)),
            ];
            let new =
                GetOptions::new().with_range(self.keys.subnets_end()).with_min_create_revision(revision + 1);
            let put = PutOptions::new().with_lease(granted.id);
            let txn = Txn::new()
                .when(conditions)
                .and_then(vec![TxnOp::put(key, codec::encode(&request.attributes), Some(put))])
                .or_else(vec![TxnOp::get(self.keys.subnets.clone(), Some(new))]);
            let response = self.transact(&txn).await?;
            if response.succeeded() {
                self.own.written(subnets, revision_of(&response));
                let attributes = request.attributes.clone();
                return Ok(Some(Lease { subnets, attributes, expires: Some(granted.expires) }));
            }
            debug!(subnet = %subnets, defeats, "another node was faster: choosing again");
            let news = self.news(&response);
            let is_own =
                |entry: &Entry| entry.attributes.as_ref().is_some_and(|a| allocate::is_own(request, a));
            if news.iter().any(is_own) {
                // Written by an earlier attempt whose answer got lost, and then attached to our etcd lease.
                if !news.iter().any(|entry| entry.lease == granted.id) {
                    self.discard(granted.id).await;
                }
                return Ok(None);
            }
            leased.extend(news.iter().map(|entry| entry.subnets));
            revision = response.header().map_or(revision, etcd_client::ResponseHeader::revision);
            jitter().await;
        }
        self.discard(granted.id).await;
        Err(unsettled())
    }

    /// The leases that a failed transaction found to be new.
    fn news(&self, response: &TxnResponse) -> Vec<Entry> {
        let read = |response: &TxnOpResponse| match response {
            TxnOpResponse::Get(get) => get.kvs().iter().filter_map(|kv| self.keys.entry(kv)).collect(),
            _ => Vec::new(),
        };
        response.op_responses().iter().flat_map(read).collect()
    }

    pub(super) async fn renew_lease(
        &self,
        lease: &Lease,
        attributes: &Attributes,
    ) -> Result<Renewed, StoreError> {
        let key = self.keys.of(&lease.subnets);
        let has_v4 = lease.subnets.v4.is_some();
        // The second, in case an earlier attempt has got through and its answer has not.
        let is_ours = |found: &Attributes| {
            allocate::same_owner(has_v4, &lease.attributes, found)
                || allocate::same_owner(has_v4, attributes, found)
        };
        let wanted = &Lease { attributes: attributes.clone(), ..lease.clone() };
        for _ in 0..MAX_READ_ATTEMPTS {
            let response = self.get(key.clone(), GetOptions::new()).await?;
            let Some(kv) = response.kvs().first() else {
                return Ok(Renewed::Lost);
            };
            let reserved = match codec::decode(kv.value()) {
                Ok(found) if !is_ours(&found) => return Ok(Renewed::Lost),
                Ok(_) => kv.lease() == 0,
                // Nobody else's: the node still has the subnet, and puts its value back.
                Err(error) => {
                    warn!(key, "this node's own entry in etcd is written anew: {error}");
                    lease.expires.is_none()
                }
            };
            if reserved {
                let same = kv.value() == codec::encode(attributes).as_bytes();
                if same || self.put_if(kv.mod_revision(), wanted, None).await? {
                    return Ok(Renewed::Until(None));
                }
            } else if let Some(expires) = self.reattach(kv.mod_revision(), kv.lease(), wanted).await? {
                return Ok(Renewed::Until(Some(expires)));
            }
            jitter().await;
        }
        Err(unsettled())
    }

    /// Writes a lease and attaches it to a new etcd lease, if it was not changed since that revision. Answers its new end.
    async fn reattach(
        &self,
        revision: i64,
        before: i64,
        lease: &Lease,
    ) -> Result<Option<SystemTime>, Failure> {
        let granted = self.grant().await?;
        if self.put_if(revision, lease, Some(granted.id)).await? {
            self.discard(before).await;
            return Ok(Some(granted.expires));
        }
        self.discard(granted.id).await;
        Ok(None)
    }

    /// Writes a lease if its key was not changed since that revision.
    async fn put_if(&self, revision: i64, lease: &Lease, attach: Option<i64>) -> Result<bool, Failure> {
        let key = self.keys.of(&lease.subnets);
        let unchanged = vec![Compare::mod_revision(key.clone(), CompareOp::Equal, revision)];
        let options = attach.map(|id| PutOptions::new().with_lease(id));
        let put = TxnOp::put(key, codec::encode(&lease.attributes), options);
        let response = self.transact(&Txn::new().when(unchanged).and_then(vec![put])).await?;
        if response.succeeded() {
            self.own.written(lease.subnets, revision_of(&response));
        }
        Ok(response.succeeded())
    }

    /// Sends a transaction. If its answer gets lost it is sent again, and then its own conditions fail: the caller reads anew,
    /// and finds what the first one wrote.
    pub(super) async fn transact(&self, txn: &Txn) -> Result<TxnResponse, Failure> {
        self.cluster
            .call(|client| {
                let txn = txn.clone();
                async move { client.kv_client().max_decoding_message_size(MAX_LISTING_BYTES).txn(txn).await }
            })
            .await
    }

    async fn grant(&self) -> Result<Granted, Failure> {
        let ttl = i64::try_from(LEASE_TTL.as_secs()).unwrap_or(i64::MAX);
        let now = SystemTime::now();
        let response =
            self.cluster.call(|client| async move { client.lease_client().grant(ttl, None).await }).await?;
        let ttl = u64::try_from(response.ttl()).unwrap_or_default();
        self.own.granted(response.id());
        Ok(Granted { id: response.id(), expires: now + Duration::from_secs(ttl) })
    }

    /// Gives back an etcd lease that has no keys; revoking would delete them. A failure only leaves it to its own end.
    async fn discard(&self, id: i64) {
        if id == 0 {
            return;
        }
        let result = self
            .cluster
            .call(|client| async move {
                let mut leases = client.lease_client();
                let keys = LeaseTimeToLiveOptions::new().with_keys();
                if leases.time_to_live(id, Some(keys)).await?.keys().is_empty() {
                    leases.revoke(id).await?;
                }
                Ok(())
            })
            .await;
        if let Err(failure) = result {
            debug!(?failure, "an etcd lease that is not needed any more is left to its end");
        }
    }
}

/// At which revision a transaction was done.
fn revision_of(response: &TxnResponse) -> i64 {
    response.header().map_or(0, etcd_client::ResponseHeader::revision)
}

async fn jitter() {
    tokio::time::sleep(Duration::from_millis(random() % JITTER_MS)).await;
}

fn unsettled() -> StoreError {
    StoreError::Unavailable {
        place: "etcd".to_owned(),
        reason: "leases change faster than they can be read".to_owned(),
    }
}
