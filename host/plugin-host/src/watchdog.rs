//! Tells calls that their time is over, by ticks of the engine's epoch. Sleeps while nothing is being called.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::Engine;

/// How often a call that goes on after its end is told again. What it does with the first tick may take until after the next one, which
/// is then lost on it.
const AGAIN: Duration = Duration::from_millis(10);

#[derive(Default)]
struct Watch {
    /// When the call that is running is to be told next that its time is over; none: no call is running.
    deadline: Option<Instant>,
    stop: bool,
}

/// Between those who call and the thread.
struct Shared {
    watch: Mutex<Watch>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches the calls into one engine's instances, one at a time.
pub(crate) struct Watchdog {
    shared: Arc<Shared>,
}

impl Watchdog {
    /// Starts the thread.
    pub(crate) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { watch: Mutex::default(), changed: Condvar::new() });
        let watched = Arc::clone(&shared);
        std::thread::Builder::new().name("watchdog".into()).spawn(move || run(&watched, &engine))?;
        Ok(Self { shared })
    }

    /// A call begins that has to end by then. The store's epoch deadline has to be one tick.
    pub(crate) fn arm(&self, deadline: Instant) {
        self.shared.lock().deadline = Some(deadline);
        self.shared.changed.notify_one();
    }

    /// The call has ended. No tick comes after this.
    pub(crate) fn disarm(&self) {
        self.shared.lock().deadline = None;
    }

    /// Whoever stops the clock while the host itself is waited for.
    pub(crate) fn pauser(&self) -> Pauser {
        Pauser(Arc::clone(&self.shared))
    }
}

/// Stops the clock of the call that is running.
pub(crate) struct Pauser(Arc<Shared>);

impl Pauser {
    /// Stops it; answers how much time is left. None: there is none left, and the call ends as soon as it goes on.
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.0.lock().deadline.take().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Lets it go on; the call has to end by then.
    pub(crate) fn resume(&self, deadline: Instant) {
        self.0.lock().deadline = Some(deadline);
        self.0.changed.notify_one();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_one();
    }
}

fn run(shared: &Shared, engine: &Engine) {
    let mut watch = shared.lock();
    while !watch.stop {
        let now = Instant::now();
        match watch.deadline {
            None => watch = shared.changed.wait(watch).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) if deadline > now => {
                // A deadline that is disarmed meanwhile costs one idle look at the time that it named.
                let waited = shared.changed.wait_timeout(watch, deadline - now);
                watch = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            Some(_) => {
                // Under the lock, so that it cannot hit the next call.
                engine.increment_epoch();
                watch.deadline = Some(now + AGAIN);
            }
        }
    }
}
