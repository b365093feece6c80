//! The network config as a file, which the kubelet exchanges by way of links when the ConfigMap changes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flannel_base::{LogThrottle, regular_file};
use flannel_lease_store::StoreError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::warn;

/// How often it is read: the kubelet writes it about once a minute at most.
const POLL: Duration = Duration::from_secs(1);
/// More than a network config has (a ConfigMap's limit).
const MAX_BYTES: u64 = 1 << 20;

/// Reads it.
pub(super) async fn read(file: &Path) -> Result<String, StoreError> {
    let owned = file.to_owned();
    let read = tokio::task::spawn_blocking(move || regular_file::read(&owned, MAX_BYTES));
    let outcome = read.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    let place = file.display().to_string();
    match outcome.map(String::from_utf8) {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(_)) => Err(StoreError::Unavailable { place, reason: "it is no UTF-8".to_owned() }),
        // A file that is mounted is there from the beginning.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Setup {
            what: "--net-config-path",
            value: place,
            reason: "there is no such file: right would be the network config's, mounted from its ConfigMap"
                .to_owned(),
        }),
        Err(error) => Err(StoreError::Unavailable { place, reason: error.to_string() }),
    }
}

/// Tells what is in it, and each other text that comes; as long as somebody listens.
pub(super) fn watch(file: PathBuf) -> Receiver<String> {
    let (sender, receiver) = channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = follow(&file, &sender) => {}
        }
    });
    receiver
}

async fn follow(file: &Path, sender: &Sender<String>) {
    let mut told: Option<String> = None;
    let mut throttle = LogThrottle::new(None);
    loop {
        match read(file).await {
            Ok(text) if told.as_ref() != Some(&text) => {
                throttle.reset();
                told = Some(text.clone());
                if sender.send(text).await.is_err() {
                    return;
                }
            }
            Ok(_) => throttle.reset(),
            Err(error) if told.is_some() && throttle.says(&error.to_string(), Instant::now()) => {
                warn!("the network config is gone, or cannot be read: {error}; going on with what is known");
            }
            Err(_) => {}
        }
        tokio::time::sleep(POLL).await;
    }
}
