//! Whether somebody still waits for what was asked for.

use tokio::sync::watch;

/// Somebody waits. When this is dropped, nobody does.
#[derive(Debug)]
pub struct Attendance(#[expect(dead_code, reason = "dropping it is what it is for")] watch::Sender<()>);

/// How those who work see whether somebody waits.
#[derive(Clone, Debug)]
pub struct Attended(watch::Receiver<()>);

/// Somebody begins to wait.
pub fn attend() -> (Attendance, Attended) {
    let (here, seen) = watch::channel(());
    (Attendance(here), Attended(seen))
}

impl Attended {
    /// Whether nobody waits any more.
    pub fn is_over(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Returns when nobody waits any more.
    pub async fn over(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}
