//! SIGHUP, and who has sent it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use flannel_telemetry::control::Asker;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The last sender: its process in the upper half, its user in the lower one. No process: it is not known.
static SENDER: AtomicU64 = AtomicU64::new(0);

/// Where SIGHUP is heard.
pub(super) struct Reloads(Signal);

impl Reloads {
    /// Begins to listen. Each signal is heard; of several in one moment the last one's sender is known.
    pub(super) fn listen() -> io::Result<Self> {
        note_senders()?;
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Waits for the next. Answers its sender, if the kernel knows one: a terminal that is gone is none.
    pub(super) async fn next(&mut self) -> Option<Option<Asker>> {
        self.0.recv().await?;
        let sender = SENDER.load(Ordering::Acquire);
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
        let (pid, uid) = (half(sender >> 32), half(sender));
        Some((pid > 0).then_some(Asker { uid, pid: Some(pid) }))
    }
}

/// Has each sender noted before whoever waits for the signal is woken: tokio's own handler, which does not look at senders, comes after it.
fn note_senders() -> io::Result<()> {
    static ONCE: std::sync::Once = std::sync::Once::new();
    let mut outcome = Ok(());
    ONCE.call_once(|| {
        let note = |info: &libc::siginfo_t| {
            // Sent by a process: kill(2), sigqueue(3), tgkill(2) (sigaction(2)). Only then are there such fields.
            let sender = if info.si_code <= 0 {
                // SAFETY: for these codes the kernel has filled in both fields.
                let (pid, uid) = unsafe { (info.si_pid(), info.si_uid()) };
                u64::from(pid.cast_unsigned()) << 32 | u64::from(uid)
            } else {
                0
            };
            SENDER.store(sender, Ordering::Release);
        };
        // SAFETY: what is run in the signal handler is one atomic store.
        let registered = unsafe { signal_hook_registry::register_sigaction(libc::SIGHUP, note) };
        outcome = registered.map(drop);
    });
    outcome
}
