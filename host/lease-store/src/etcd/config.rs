//! The network config in etcd: followed over broken connections and compactions, and written if nobody else was faster.

use std::convert::Infallible;
use std::time::Instant;

use etcd_client::{
    Client, Compare, CompareOp, EventType, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse, WatchOptions,
    WatchResponse,
};
use flannel_base::LogThrottle;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::EtcdStore;
use super::cluster::{Failure, PERMISSION_DENIED};
use super::watch::{Cursor, Ended, REMIND, open};
use crate::store::{ConfigWritten, LeaseStore as _, RECONNECT, StoreError, as_long_as_heard};

pub(super) fn start(store: EtcdStore) -> Receiver<String> {
    as_long_as_heard(move |sender| async move {
        let throttle = LogThrottle::new(Some(REMIND));
        Follower { store, sender, told: None, lively: false, throttle }.follow().await;
    })
}

struct Follower {
    store: EtcdStore,
    sender: Sender<String>,
    /// What the receiver knows.
    told: Option<String>,
    /// Whether etcd has answered since the last failure.
    lively: bool,
    throttle: LogThrottle,
}

impl Follower {
    async fn follow(&mut self) {
        let mut failures = 0;
        loop {
            self.lively = false;
            let Err(ended) = self.once().await;
            if self.lively {
                failures = 0;
            }
            match ended {
                Ended::Unheard => return,
                Ended::Stale(reason) => debug!(reason, "the network config is read from etcd anew"),
                Ended::Broken(failure) => {
                    let (Failure::Away(reason) | Failure::Refused { reason, .. }) = failure;
                    self.warn("the watch of the network config in etcd is broken", &reason);
                }
            }
            sleep(RECONNECT.after(failures)).await;
            failures = failures.saturating_add(1);
        }
    }

    /// Reads it, and follows it from there on, until something ends that. What is read each time makes up for all that was missed.
    async fn once(&mut self) -> Result<Infallible, Ended> {
        let response = self.store.get(self.store.keys.config.clone(), GetOptions::new()).await?;
        let Some(header) = response.header() else {
            return Err(Ended::Stale("an answer without a revision".to_owned()));
        };
        let at = Cursor { revision: header.revision(), cluster: header.cluster_id() };
        self.lively = true;
        match response.kvs().first() {
            Some(kv) => self.tell(kv).await?,
            None => self.warn_of_none(),
        }
        let (member, client) = self.store.cluster.client().await;
        let result = match client {
            Ok(client) => self.stream(member, client, &at).await,
            Err(failure) => Err(failure.into()),
        };
        if matches!(result, Err(Ended::Broken(_))) {
            self.store.cluster.leave(member);
        }
        result
    }

    async fn stream(&mut self, member: usize, client: Client, at: &Cursor) -> Result<Infallible, Ended> {
        let options = WatchOptions::new().with_start_revision(at.revision + 1).with_progress_notify();
        let key = self.store.keys.config.clone();
        let (mut stream, mut response) = open(&self.store.cluster, member, client, key, options).await?;
        loop {
            let Some(message) = response else {
                return Err(Ended::Broken(Failure::Away("etcd ended the stream".to_owned())));
            };
            self.heard(&message, at).await?;
            let next = stream.message().await;
            response = next.map_err(|error| self.store.cluster.failure(member, &error))?;
        }
    }

    async fn heard(&mut self, message: &WatchResponse, at: &Cursor) -> Result<(), Ended> {
        at.check(message)?;
        // Of several the last is what is there.
        let Some(last) = message.events().last() else { return Ok(()) };
        if let (EventType::Put, Some(kv)) = (last.event_type(), last.kv()) {
            return self.tell(kv).await;
        }
        self.warn_of_none();
        Ok(())
    }

    async fn tell(&mut self, kv: &KeyValue) -> Result<(), Ended> {
        let Ok(text) = kv.value_str() else {
            self.warn("the network config in etcd cannot be read", "it is not UTF-8; right would be JSON");
            return Ok(());
        };
        self.throttle.reset();
        if self.told.as_deref() == Some(text) {
            return Ok(());
        }
        self.told = Some(text.to_owned());
        self.sender.send(text.to_owned()).await.map_err(|_| Ended::Unheard)
    }

    fn warn_of_none(&mut self) {
        if self.told.is_some() {
            let place = self.store.config_place();
            self.warn("the network config is gone", &place);
        }
    }

    fn warn(&mut self, what: &str, reason: &str) {
        if self.throttle.says(what, Instant::now()) {
            warn!("{what}: {reason}; going on with what is known");
        }
    }
}

impl EtcdStore {
    pub(super) async fn write_config(
        &self,
        text: &str,
        seen: Option<&str>,
    ) -> Result<ConfigWritten, StoreError> {
        let key = self.keys.config.clone();
        let unchanged = match seen {
            Some(seen) => Compare::value(key.clone(), CompareOp::Equal, seen),
            None => Compare::version(key.clone(), CompareOp::Equal, 0),
        };
        let txn = Txn::new()
            .when(vec![unchanged])
            .and_then(vec![TxnOp::put(key.clone(), text, None)])
            .or_else(vec![TxnOp::get(key, None)]);
        let response = self.transact(&txn).await.map_err(|failure| self.not_written(failure))?;
        if response.succeeded() {
            return Ok(ConfigWritten::Written);
        }
        let found = response.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(get) => {
                get.kvs().first().map(|kv| String::from_utf8_lossy(kv.value()).into_owned())
            }
            _ => None,
        });
        // By an attempt before this one whose answer got lost, or by somebody who wants the same.
        if found.as_deref() == Some(text) {
            return Ok(ConfigWritten::Written);
        }
        Ok(ConfigWritten::Overtaken(found))
    }

    /// Nodes write leases only: the user that they have may well not be one who writes the config.
    fn not_written(&self, failure: Failure) -> StoreError {
        match failure {
            Failure::Refused { code: PERMISSION_DENIED, .. } => StoreError::Refused {
                place: self.config_place(),
                reason: "the etcd user may not write it; right would be --etcd-username of one who may"
                    .to_owned(),
            },
            failure => failure.into(),
        }
    }
}
