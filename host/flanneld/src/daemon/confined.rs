//! Work on a confined thread of its own, waited for without a thread.

use std::fmt::{self, Display};

use flannel_privileges::{Profile, spawn_confined};
use tokio::sync::oneshot;

/// The work has no outcome.
#[derive(Debug)]
pub(super) enum NoOutcome {
    /// Its thread could not be started.
    Start(std::io::Error),
    /// It has panicked.
    Panic,
}

impl Display for NoOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "a thread for the plugin cannot be started: {error}"),
            Self::Panic => f.write_str("flanneld itself has panicked meanwhile"),
        }
    }
}

/// Runs what calls a plugin. Not on a thread of the runtime's, which others would get after it.
pub(super) async fn run<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NoOutcome> {
    let (answer, answered) = oneshot::channel();
    let work = move || drop(answer.send(work()));
    spawn_confined(name, Profile::Plugin, work).map_err(NoOutcome::Start)?;
    answered.await.map_err(|_| NoOutcome::Panic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_panics_is_told_and_what_does_not_is_answered() {
        assert_eq!(run("test", || 7).await.expect("an outcome"), 7);
        let outcome = run("test", || std::panic::resume_unwind(Box::new(()))).await;
        assert!(matches!(outcome, Err::<(), _>(NoOutcome::Panic)));
    }

    #[tokio::test]
    async fn it_can_open_nothing() {
        let opened = run("test", || std::fs::read("/proc/self/status").map(drop)).await.expect("an outcome");
        assert_eq!(opened.expect_err("refused").kind(), std::io::ErrorKind::PermissionDenied);
    }

    /// As wasmtime makes one of its own when a component with WASI waits for the first time.
    #[tokio::test]
    async fn a_runtime_for_the_waits_of_components_can_be_made_there() {
        let waited = run("test", || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().enable_io().build()?;
            let wait = async { tokio::time::sleep(std::time::Duration::from_millis(1)).await };
            runtime.block_on(runtime.spawn(wait))?;
            Ok::<_, std::io::Error>(())
        });
        waited.await.expect("an outcome").expect("a runtime");
    }
}
