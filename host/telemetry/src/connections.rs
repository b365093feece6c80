//! The clients of a server: many and slow ones do no harm to others.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// Tasks that serve one connection each. When there are too many, the oldest is cut off: who asks properly has had its answer
/// by then, and who holds connections open does not keep the next probe waiting.
pub(super) struct Connections {
    most: usize,
    tasks: VecDeque<JoinHandle<()>>,
}

impl Connections {
    pub(super) fn new(most: usize) -> Self {
        Self { most, tasks: VecDeque::new() }
    }

    pub(super) fn serve(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        self.tasks.retain(|task| !task.is_finished());
        if self.tasks.len() >= self.most
            && let Some(oldest) = self.tasks.pop_front()
        {
            oldest.abort();
        }
        self.tasks.push_back(tokio::spawn(connection));
    }

    /// Waits until all are served, but no longer than this; the rest is cut off.
    pub(super) async fn finish(mut self, within: Duration) {
        let end = Instant::now() + within;
        while let Some(task) = self.tasks.front_mut() {
            if timeout_at(end, task).await.is_err() {
                return;
            }
            self.tasks.pop_front();
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
