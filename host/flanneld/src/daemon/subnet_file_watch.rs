//! Whether the subnet file is as it was written: container runtimes read it for every pod.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};

use crate::node::subnet_file::SubnetFile;

/// How often it is looked at. Notifications would not tell of a directory that is removed and made again above it.
const LOOK: Duration = Duration::from_secs(1);

/// The watch; it ends when it is dropped.
pub(super) struct SubnetFileWatch {
    wanted: Arc<Mutex<Option<(PathBuf, SubnetFile)>>>,
    task: JoinHandle<()>,
}

impl SubnetFileWatch {
    /// Begins, with nothing to watch. `lost` is called at each look that finds the file not as it should be.
    pub(super) fn start(lost: impl Fn() + Send + 'static) -> Self {
        let wanted: Arc<Mutex<Option<(PathBuf, SubnetFile)>>> = Arc::default();
        let task = tokio::spawn({
            let wanted = Arc::clone(&wanted);
            async move {
                loop {
                    tokio::time::sleep(LOOK).await;
                    let current = || wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let Some((path, file)) = current() else { continue };
                    // A file system that hangs holds up this look, and nothing else.
                    let is_there = spawn_blocking({
                        let file = file.clone();
                        move || file.is_at(&path)
                    });
                    let is_lost = matches!(is_there.await, Ok(false));
                    // It may be another one that is wanted by now.
                    if is_lost && current().is_some_and(|(_, now)| now == file) {
                        lost();
                    }
                }
            }
        });
        Self { wanted, task }
    }

    /// The means to say what is to be there.
    pub(super) fn setter(&self) -> impl Fn(Option<(PathBuf, SubnetFile)>) + Send + use<> {
        let wanted = Arc::clone(&self.wanted);
        move |file| *wanted.lock().unwrap_or_else(PoisonError::into_inner) = file
    }
}

impl Drop for SubnetFileWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
