//! Work that nobody waits for, but that has to be done in its order.

use std::pin::Pin;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task that does one thing after the other. Dropping it ends what is under way.
pub(super) struct InOrder {
    work: UnboundedSender<Work>,
    task: JoinHandle<()>,
}

impl InOrder {
    /// Starts the task.
    pub(super) fn start() -> Self {
        let (work, mut inbox) = unbounded_channel::<Work>();
        let task = tokio::spawn(async move {
            while let Some(work) = inbox.recv().await {
                work.await;
            }
        });
        Self { work, task }
    }

    /// Does this after all that came before.
    pub(super) fn push(&self, work: impl Future<Output = ()> + Send + 'static) {
        // The task ends with us.
        let _ = self.work.send(Box::pin(work));
    }
}

impl Drop for InOrder {
    fn drop(&mut self) {
        self.task.abort();
    }
}
