//! Reading from etcd: the config, one lease, and all of them in pages, as they were at one revision.

use etcd_client::{Error, GetOptions, GetResponse, KeyValue};
use flannel_base::text::excerpt;
use flannel_model::codec;
use flannel_model::lease::{Attributes, Lease, Subnets};
use tracing::warn;

use super::EtcdStore;
use super::cluster::{Failure, OUT_OF_RANGE};
use crate::store::StoreError;

/// How many leases are read at once: some hundred kilobytes.
const PAGE: i64 = 2_000;
/// The largest answer that is read; gRPC's own limit of 4 MiB is less than a page of leases may have.
pub(super) const MAX_LISTING_BYTES: usize = 64 << 20;
/// How often a reading is begun again that a compaction ended.
const MAX_READ_ATTEMPTS: u32 = 5;

/// A key under `subnets/` whose name is that of a lease.
pub(super) struct Entry {
    pub(super) subnets: Subnets,
    /// None: the value cannot be read. The subnets are taken all the same.
    pub(super) attributes: Option<Attributes>,
    pub(super) create_revision: i64,
    pub(super) mod_revision: i64,
    /// The etcd lease; 0: none, a reservation.
    pub(super) lease: i64,
}

impl Entry {
    /// Reads a key; none, with a warning, if its name is not that of a lease.
    pub(super) fn read(name: &str, kv: &KeyValue) -> Option<Self> {
        let read = codec::read_entry(name, kv.value());
        if let Err(error) = &read {
            warn!(key = excerpt(name), "an entry in etcd is left out: {error}");
        }
        Some(Self {
            subnets: codec::parse_key_name(name).ok()?,
            attributes: read.ok().map(|(_, attributes)| attributes),
            create_revision: kv.create_revision(),
            mod_revision: kv.mod_revision(),
            lease: kv.lease(),
        })
    }

    /// As a lease. Its end would take another question for each, so it is left open.
    pub(super) fn into_lease(self) -> Option<Lease> {
        Some(Lease { subnets: self.subnets, attributes: self.attributes?, expires: None })
    }
}

/// All leases at a revision.
pub(super) struct Listing {
    pub(super) entries: Vec<Entry>,
    pub(super) revision: i64,
    /// Which cluster it was: another one's revisions mean nothing.
    pub(super) cluster: u64,
}

impl EtcdStore {
    pub(super) async fn read_config(&self) -> Result<String, StoreError> {
        let response = self.get(self.keys.config.clone(), GetOptions::new()).await?;
        let place = super::LeaseStore::config_place(self);
        let Some(kv) = response.kvs().first() else {
            return Err(StoreError::NoConfig { place });
        };
        String::from_utf8(kv.value().to_vec()).map_err(|_| StoreError::Refused {
            place,
            reason: "it is not UTF-8; right would be JSON".to_owned(),
        })
    }

    pub(super) async fn get(&self, key: String, options: GetOptions) -> Result<GetResponse, Failure> {
        self.cluster
            .call(|client| {
                let (key, options) = (key.clone(), options.clone());
                async move {
                    let mut kv = client.kv_client().max_decoding_message_size(MAX_LISTING_BYTES);
                    kv.get(key, Some(options)).await
                }
            })
            .await
    }

    /// Reads all leases.
    pub(super) async fn list(&self) -> Result<Listing, Failure> {
        let mut readings = 0;
        loop {
            readings += 1;
            match self.list_once().await {
                Err(Failure::Refused { code: OUT_OF_RANGE, .. }) if readings < MAX_READ_ATTEMPTS => {}
                result => return result,
            }
        }
    }

    async fn list_once(&self) -> Result<Listing, Failure> {
        let mut listing = Listing { entries: Vec::new(), revision: 0, cluster: 0 };
        let mut from = self.keys.subnets.clone().into_bytes();
        let mut page = PAGE;
        loop {
            let mut options = GetOptions::new().with_range(self.keys.subnets_end()).with_limit(page);
            if listing.revision > 0 {
                options = options.with_revision(listing.revision);
            }
            let response = self
                .cluster
                .call(|client| {
                    let (from, options) = (from.clone(), options.clone());
                    async move {
                        let mut kv = client.kv_client().max_decoding_message_size(MAX_LISTING_BYTES);
                        let response = kv.get(from, Some(options)).await?;
                        if response.header().is_none() {
                            return Err(Error::Internal("an answer without a revision".to_owned()));
                        }
                        Ok(response)
                    }
                })
                .await;
            let response = match response {
                // Larger than an answer may be: somebody has written large values. Or what is wanted is compacted; then the last try says so.
                Err(Failure::Refused { code: OUT_OF_RANGE, .. }) if page > 1 => {
                    page /= 2;
                    continue;
                }
                response => response?,
            };
            if let Some(header) = response.header().filter(|_| listing.revision == 0) {
                listing.revision = header.revision();
                listing.cluster = header.cluster_id();
            }
            listing.entries.extend(response.kvs().iter().filter_map(|kv| self.keys.entry(kv)));
            match response.kvs().last() {
                Some(last) if response.more() => {
                    // The first key that is greater than the last one.
                    from = [last.key(), b"\0"].concat();
                }
                _ => return Ok(listing),
            }
        }
    }
}

impl super::Keys {
    /// The key of a lease.
    pub(super) fn of(&self, subnets: &Subnets) -> String {
        format!("{}{}", self.subnets, codec::key_name(subnets))
    }

    /// The end of the range of all keys that begin with `subnets/`: the character after the slash.
    pub(super) fn subnets_end(&self) -> String {
        format!("{}0", self.subnets.trim_end_matches('/'))
    }

    /// What a key is called below `subnets/`.
    pub(super) fn name<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(key.strip_prefix(self.subnets.as_bytes())?).ok()
    }

    /// Reads a key of the range of leases.
    pub(super) fn entry(&self, kv: &KeyValue) -> Option<Entry> {
        if let Some(name) = self.name(kv.key()) {
            return Entry::read(name, kv);
        }
        warn!(
            key = excerpt(&String::from_utf8_lossy(kv.key())),
            "an entry in etcd is left out: its name is not UTF-8"
        );
        None
    }
}
