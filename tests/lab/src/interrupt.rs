//! Ctrl-C: the lab's processes and network vanish with this process anyway; its files have to be removed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::child_reaper;

/// Watches for Ctrl-C and SIGTERM.
pub struct Interrupt {
    waited_for: Arc<AtomicBool>,
    signal: Mutex<mpsc::Receiver<()>>,
}

impl Interrupt {
    /// From now on a signal removes the directory and ends the process, unless somebody waits for it.
    pub fn arm(directory: &Path) -> Result<Self> {
        let directory = directory.to_owned();
        let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for signals")?;
        let (sender, signal) = mpsc::channel();
        let waited_for = Arc::new(AtomicBool::new(false));
        let interrupt = Self { waited_for: Arc::clone(&waited_for), signal: Mutex::new(signal) };
        let watch = move || {
            for signal in signals.forever() {
                if waited_for.swap(false, Ordering::Relaxed) && sender.send(()).is_ok() {
                    continue;
                }
                child_reaper::close();
                remove(&directory);
                std::process::exit(128 + signal);
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(watch).context("cannot start a thread")?;
        Ok(interrupt)
    }

    /// Waits for a signal. A second one, while things are being tidied up, ends the process at once.
    pub fn wait(&self) {
        self.waited_for.store(true, Ordering::Relaxed);
        // The thread that sends never ends.
        let _ = self.signal.lock().unwrap_or_else(PoisonError::into_inner).recv();
    }
}

/// Removes a directory into which processes that are being killed may still be writing.
fn remove(directory: &Path) {
    for _ in 0..100 {
        if std::fs::remove_dir_all(directory).is_ok() || !directory.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
