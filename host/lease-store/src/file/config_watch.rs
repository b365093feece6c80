//! Following the network config of a lease directory: what is in the file, each time that it is something else. Readings are prompted by
//! inotify, and by time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_base::LogThrottle;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::config::is_watched;
use super::directory::Directory;
use super::notify::{Changed, Notify};
use crate::store::{StoreError, as_long_as_heard};

/// How long after a reading the file is read again if nothing prompts it: where other hosts write it, nothing does.
const RESYNC: Duration = Duration::from_secs(10);
/// The same while there is no inotify.
const POLL: Duration = Duration::from_secs(1);
/// How long a text is to stay the same: who empties the file and writes it again, as `>` of a shell, needs less.
const SETTLE: Duration = Duration::from_millis(50);
/// How often it is waited for. What is written all the time is told as it is.
const ROUNDS: u32 = 40;

pub(super) fn start(directory: Arc<Directory>) -> Receiver<String> {
    as_long_as_heard(move |sender| async move { follow(&directory, &sender).await })
}

/// Ends when nobody listens any more.
async fn follow(directory: &Arc<Directory>, sender: &Sender<String>) {
    let mut notify: Option<Notify> = None;
    let mut told: Option<String> = None;
    let mut throttle = LogThrottle::new(None);
    loop {
        // Before the reading: what changes after it prompts the next. Where it fails, who follows the leases says so.
        notify = notify.or_else(|| Notify::start(directory.path()).ok());
        match settled(directory, told.as_ref()).await {
            Ok(text) => {
                throttle.reset();
                if told.as_ref() != Some(&text) {
                    told = Some(text.clone());
                    if sender.send(text).await.is_err() {
                        return;
                    }
                }
            }
            // Who has not had any is waiting for it.
            Err(error) if told.is_some() && throttle.says(&error.to_string(), Instant::now()) => {
                warn!("the network config is gone, or cannot be read: {error}; going on with what is known");
            }
            Err(_) => {}
        }
        notify = prompted(notify).await;
    }
}

/// What is there when it stays the same.
async fn settled(directory: &Arc<Directory>, told: Option<&String>) -> Result<String, StoreError> {
    let mut found = read(directory).await;
    for _ in 0..ROUNDS {
        if found.as_ref().ok().is_some_and(|text| Some(text) == told) {
            break;
        }
        sleep(SETTLE).await;
        let again = read(directory).await;
        if again == found {
            break;
        }
        found = again;
    }
    found
}

async fn read(directory: &Arc<Directory>) -> Result<String, StoreError> {
    let (directory, place) = (Arc::clone(directory), directory.place());
    let read = tokio::task::spawn_blocking(move || directory.config());
    read.await.unwrap_or_else(|error| Err(StoreError::Unavailable { place, reason: error.to_string() }))
}

/// Waits until it is to be read again.
async fn prompted(notify: Option<Notify>) -> Option<Notify> {
    let Some(mut notify) = notify else {
        sleep(POLL).await;
        return None;
    };
    let of_interest = |changed: Changed<'_>| match changed {
        Changed::File(name) => is_watched(name),
        Changed::Anything => true,
    };
    match timeout(RESYNC, notify.changed(of_interest)).await {
        Ok(Ok(true)) => Some(notify),
        // Begun anew: the directory was moved or removed, or inotify failed, or nothing has come for long, and then it may
        // have been replaced further up, without a sign.
        _ => None,
    }
}
