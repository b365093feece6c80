//! Notices that the plugin's file is another one: `--watch-plugin`. Looks at it now and then, which also works where files come
//! over the network, or by a link that is turned to another directory.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::sleep;

/// Between two looks. A file that is still being written changes from one to the next.
const LOOK: Duration = Duration::from_millis(500);

/// A file that is watched, or none.
pub(super) struct PluginWatch(Option<Receiver<()>>);

/// What a file that is another one, or has been written to, does not share with the one before.
type Fingerprint = Option<(u64, u64, u64, i64, i64)>;

impl PluginWatch {
    /// Begins to watch. Ends when it is dropped.
    pub(super) fn start(file: Option<&PathBuf>) -> Self {
        Self(file.cloned().map(|file| {
            let (sender, receiver) = channel(1);
            tokio::spawn(async move {
                let mut known = fingerprint(&file).await;
                loop {
                    tokio::select! {
                        () = sender.closed() => return,
                        () = sleep(LOOK) => {}
                    }
                    let now = fingerprint(&file).await;
                    if now == known || now.is_none() {
                        continue;
                    }
                    sleep(LOOK).await;
                    if fingerprint(&file).await == now {
                        known = now;
                        // One that has not been heard yet is enough.
                        let _ = sender.try_send(());
                    }
                }
            });
            receiver
        }))
    }

    /// Waits for a change; without a file for ever.
    pub(super) async fn changed(&mut self) -> Option<()> {
        match &mut self.0 {
            Some(receiver) => receiver.recv().await,
            None => std::future::pending().await,
        }
    }
}

async fn fingerprint(file: &Path) -> Fingerprint {
    let meta = tokio::fs::metadata(file).await.ok()?;
    Some((meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}
