//! The commands that need more than a line.

mod check;
pub(crate) mod output;
pub(crate) mod plugin;

/// Runs something for a command, which does nothing beside it.
pub(crate) fn wait_for<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}
