//! Following a lease directory: a snapshot, then what differs at each further reading. Readings are prompted by inotify, and
//! by time.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inotify::{EventMask, Inotify, WatchMask};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::directory::{Cache, Directory, Entry};
use crate::lease::model::{Lease, Subnets};
use crate::lease::store::{Change, Event, RECONNECT, StoreError, WATCH_QUEUE, longer};

/// How long after a reading the directory is read again if nothing prompts it.
const RESYNC: Duration = Duration::from_secs(30);
/// The same while there is no inotify.
const POLL: Duration = Duration::from_secs(1);

pub(super) fn start(directory: Arc<Directory>) -> Receiver<Event> {
    let (sender, receiver) = channel(WATCH_QUEUE);
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = follow(&directory, &sender) => {}
        }
    });
    receiver
}

/// Ends when nobody listens any more.
async fn follow(directory: &Arc<Directory>, sender: &Sender<Event>) {
    let mut notify: Option<Notify> = None;
    let mut cache = Cache::default();
    let mut known: Option<Known> = None;
    let mut wait = RECONNECT.0;
    let (mut said, mut said_blind) = (None, false);
    loop {
        // Before the reading: what changes after it prompts the next.
        if notify.is_none() {
            match Notify::start(&directory.subnets()) {
                Ok(started) => (notify, said_blind) = (Some(started), false),
                Err(error) if !said_blind => {
                    said_blind = true;
                    warn!(%error, "inotify cannot watch the lease directory: it is read every second");
                }
                Err(_) => {}
            }
        }
        let scanned;
        (cache, scanned) = scan(Arc::clone(directory), cache).await;
        match scanned {
            Ok(entries) => {
                (wait, said) = (RECONNECT.0, None);
                let event = match &mut known {
                    None => {
                        let (first, leases) = Known::begin(entries);
                        known = Some(first);
                        Some(Event::Snapshot(leases))
                    }
                    Some(known) => {
                        Some(known.update(entries)).filter(|changes| !changes.is_empty()).map(Event::Changes)
                    }
                };
                if let Some(event) = event
                    && sender.send(event).await.is_err()
                {
                    return;
                }
                notify = prompted(notify).await;
            }
            Err(error) => {
                let text = error.to_string();
                if said.as_ref() != Some(&text) {
                    warn!("{text}; going on with the leases that are known, and trying again");
                    said = Some(text);
                }
                notify = None;
                sleep(wait).await;
                wait = longer(wait);
            }
        }
    }
}

/// Waits until the directory is to be read again.
async fn prompted(notify: Option<Notify>) -> Option<Notify> {
    let Some(mut notify) = notify else {
        sleep(POLL).await;
        return None;
    };
    match timeout(RESYNC, notify.changed()).await {
        Ok(Ok(true)) => Some(notify),
        // Begun anew: the directory was moved or removed, or inotify failed, or nothing has come for long, and then it may
        // have been replaced further up, without a sign.
        _ => None,
    }
}

async fn scan(directory: Arc<Directory>, mut cache: Cache) -> (Cache, Result<Vec<Entry>, StoreError>) {
    let place = directory.place();
    let work = move || {
        let scanned = directory.scan(&mut cache);
        (cache, scanned)
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        (Cache::default(), Err(StoreError::Unavailable { place, reason: error.to_string() }))
    })
}

/// What the receiver knows.
struct Known(HashMap<Subnets, Lease>);

impl Known {
    fn begin(entries: Vec<Entry>) -> (Self, Vec<Lease>) {
        let leases: Vec<Lease> = entries.into_iter().filter_map(Entry::into_lease).collect();
        (Self(leases.iter().map(|lease| (lease.subnets, lease.clone())).collect()), leases)
    }

    /// What has changed: first what is gone, so that what comes in its place does not overlap it.
    fn update(&mut self, entries: Vec<Entry>) -> Vec<Change> {
        let mut present = HashMap::with_capacity(entries.len());
        for entry in entries {
            let subnets = entry.subnets;
            // A file that cannot be read stays what it was.
            let lease = match entry.attributes {
                Some(_) => entry.into_lease(),
                None => self.0.get(&subnets).cloned(),
            };
            present.extend(lease.map(|lease| (subnets, lease)));
        }
        let mut gone: Vec<Subnets> =
            self.0.keys().filter(|subnets| !present.contains_key(subnets)).copied().collect();
        let mut put: Vec<&Lease> =
            present.values().filter(|lease| self.0.get(&lease.subnets) != Some(lease)).collect();
        gone.sort_unstable();
        put.sort_unstable_by_key(|lease| lease.subnets);
        let changes: Vec<Change> =
            gone.into_iter().map(Change::Removed).chain(put.into_iter().cloned().map(Change::Put)).collect();
        self.0 = present;
        changes
    }
}

/// What the kernel tells of changes in a directory.
struct Notify(AsyncFd<Inotify>);

impl Notify {
    fn start(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        inotify.watches().add(
            path,
            WatchMask::CREATE
                | WatchMask::CLOSE_WRITE
                // Not only writing: a renewal sets the modification time, and that is told as this.
                | WatchMask::MODIFY
                | WatchMask::MOVE
                | WatchMask::DELETE
                | WatchMask::ATTRIB
                | WatchMask::DELETE_SELF
                | WatchMask::MOVE_SELF
                | WatchMask::ONLYDIR,
        )?;
        // SAFETY: `Inotify` owns the descriptor that it gives out, always the same one, and closes it only when it is dropped
        // or consumed. The `AsyncFd` owns it from here to its end: nothing in this module takes it out or replaces it.
        let notify = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) };
        Ok(Self(notify?))
    }

    /// Waits for changes, and takes all that there are. False: the directory itself is gone.
    async fn changed(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let mut changed = false;
        loop {
            let mut ready = self.0.readable_mut().await?;
            match ready.get_inner_mut().read_events(&mut buffer) {
                Ok(mut events) => {
                    let over = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED;
                    if events.any(|event| event.mask.intersects(over)) {
                        return Ok(false);
                    }
                    changed = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    if changed {
                        return Ok(true);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}
