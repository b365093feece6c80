//! Puts the CNI configuration where container runtimes look for it, once pods can have a network: until then kubelet calls the node not ready,
//! and no pod is tried on it.
//!
//! It is never taken away: a daemon that stops leaves its node's pods connected.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_base::atomic_file::{self, Mode};
use flannel_base::{Backoff, LogThrottle, regular_file};
use serde::de::IgnoredAny;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{error, info};

/// A file longer than this is no CNI configuration.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The mode of a new file: everybody may read it.
const NEW_FILE_MODE: u32 = 0o644;
/// Waits before it is tried again: the file comes from a volume that may be there later.
const RETRY: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_mins(1) };
/// How often the log repeats why it is not written.
const REMIND: Duration = Duration::from_mins(10);

/// Whoever writes it; ends when it is dropped.
pub(super) struct CniConfig {
    ready: Arc<Notify>,
    task: JoinHandle<()>,
}

impl CniConfig {
    /// Begins to wait for the node to be ready. `from`: what is to be in `to`.
    pub(super) fn start(from: PathBuf, to: PathBuf) -> Self {
        let ready = Arc::new(Notify::new());
        let task = tokio::spawn({
            let ready = Arc::clone(&ready);
            async move {
                loop {
                    ready.notified().await;
                    write(&from, &to, RETRY).await;
                }
            }
        });
        Self { ready, task }
    }

    /// The node has become ready.
    pub(super) fn node_is_ready(&self) {
        self.ready.notify_one();
    }
}

impl Drop for CniConfig {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Writes it, however long that takes. `retry`: the waits in between.
async fn write(from: &Path, to: &Path, retry: Backoff) {
    let (mut throttle, mut failures) = (LogThrottle::new(Some(REMIND)), 0);
    loop {
        let (source, target) = (from.to_owned(), to.to_owned());
        // A file system that hangs holds up nobody else.
        let written = spawn_blocking(move || install(&source, &target)).await;
        let lost = |error| Err(CniConfigError::Write(to.to_owned(), io::Error::other(error)));
        let reason = match written.unwrap_or_else(lost) {
            Ok(Installed::New) => {
                info!(file = %to.display(), from = %from.display(), "CNI configuration written");
                return;
            }
            Ok(Installed::Same) => {
                info!(file = %to.display(), "the CNI configuration is there already");
                return;
            }
            Err(reason) => reason.to_string(),
        };
        if throttle.says(&reason, Instant::now()) {
            error!("{reason}; without it this node gets no pods; trying again");
        }
        tokio::time::sleep(retry.after(failures)).await;
        failures = failures.saturating_add(1);
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Installed {
    /// It was written.
    New,
    /// It was there. Runtimes load again what is written.
    Same,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
enum CniConfigError {
    /// There is nothing to write.
    #[error("the CNI configuration of --cni-conf-from, {0}, cannot be read: {1}")]
    Read(PathBuf, io::Error),
    /// No runtime could use it.
    #[error("the CNI configuration of --cni-conf-from, {0}, is no JSON: {1}")]
    Json(PathBuf, serde_json::Error),
    /// It cannot be put in its place.
    #[error("the CNI configuration of --cni-conf-to, {0}, cannot be written: {1}")]
    Write(PathBuf, io::Error),
}

fn install(from: &Path, to: &Path) -> Result<Installed, CniConfigError> {
    let wanted = regular_file::read(from, MAX_FILE_BYTES);
    let wanted = wanted.map_err(|error| CniConfigError::Read(from.to_owned(), error))?;
    serde_json::from_slice::<IgnoredAny>(&wanted)
        .map_err(|error| CniConfigError::Json(from.to_owned(), error))?;
    if regular_file::read(to, MAX_FILE_BYTES + 1).is_ok_and(|there| there == wanted) {
        return Ok(Installed::Same);
    }
    atomic_file::replace(to, &wanted, Mode::KeepOr(NEW_FILE_MODE))
        .map_err(|error| CniConfigError::Write(to.to_owned(), error))?;
    Ok(Installed::New)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    /// Long enough for what should not happen to happen now and then.
    const MOMENT: Duration = Duration::from_millis(50);

    /// Until something holds; a test that waits for ever fails by itself.
    async fn until(holds: impl Fn() -> bool) {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn what_is_written_is_the_source_and_what_is_there_already_is_not_touched() {
        let directory = tempfile::tempdir().expect("directory");
        let (from, to) =
            (directory.path().join("cni-conf.json"), directory.path().join("net.d/10-flannel.conflist"));
        std::fs::write(&from, "{}").expect("written");
        assert_eq!(install(&from, &to).expect("written"), Installed::New);
        let inode = || to.metadata().expect("there").ino();
        let (before, mode) = (inode(), to.metadata().expect("there").permissions().mode());
        assert_eq!(
            (install(&from, &to).expect("there"), inode(), mode & 0o7777),
            (Installed::Same, before, 0o644)
        );
        std::fs::write(&from, r#"{"name":"cbr0"}"#).expect("written");
        assert_eq!(install(&from, &to).expect("written"), Installed::New);
        assert_eq!(std::fs::read(&to).expect("read"), br#"{"name":"cbr0"}"#);
    }

    #[test]
    fn what_no_runtime_could_use_is_not_written_over_what_is_there() {
        let directory = tempfile::tempdir().expect("directory");
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        std::fs::write(&to, "{}").expect("written");
        for wrong in [None, Some(""), Some("{\"name\":")] {
            if let Some(text) = wrong {
                std::fs::write(&from, text).expect("written");
            }
            let error = install(&from, &to).expect_err("refused").to_string();
            assert!(
                error.contains("--cni-conf-from") && error.contains(&from.display().to_string()),
                "{error}"
            );
        }
        assert_eq!(std::fs::read(&to).expect("read"), b"{}");
    }

    #[tokio::test]
    async fn it_is_written_each_time_the_node_becomes_ready_and_not_before_and_is_never_taken_away() {
        let directory = tempfile::tempdir().expect("directory");
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        std::fs::write(&from, "{}").expect("written");
        let config = CniConfig::start(from, to.clone());
        for _ in 0..2 {
            tokio::time::sleep(MOMENT).await;
            assert!(!to.exists(), "the node is not ready");
            config.node_is_ready();
            until(|| to.exists()).await;
            std::fs::remove_file(&to).expect("removed");
        }
        config.node_is_ready();
        until(|| to.exists()).await;
        drop(config);
        tokio::time::sleep(MOMENT).await;
        assert!(to.exists());
    }

    #[tokio::test]
    async fn what_cannot_be_written_yet_is_tried_until_it_can() {
        let directory = tempfile::tempdir().expect("directory");
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        let retry = Backoff { min: Duration::from_millis(1), max: Duration::from_millis(1) };
        let mut writing = std::pin::pin!(write(&from, &to, retry));
        assert!(tokio::time::timeout(MOMENT, &mut writing).await.is_err(), "there is nothing to write yet");
        std::fs::write(&from, "{}").expect("written");
        writing.await;
        assert!(to.exists());
    }
}
