//! The clock of the file system that the leases are on, which all hosts share. Leases end by it: a host whose own clock is a day ahead must not
//! take others' leases for over, and one whose clock is behind must not write leases that are.

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use flannel_base::regular_file::NONBLOCK;
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};

/// Smaller differences are the network's, or the clocks' grain.
const TOLERANCE_MS: i64 = 2_000;

/// How far this machine's clock is ahead of the file system's.
#[derive(Debug, Default)]
pub(super) struct Clock {
    ahead_ms: AtomicI64,
}

impl Clock {
    /// Compares the clocks, with the time stamp that the file system gives a file. Where it cannot be asked nothing changes.
    pub(super) fn set_by(&self, dir: &Dir, file: &str) {
        let Ok(theirs) = stamp(dir, file) else { return };
        let ahead = match SystemTime::now().duration_since(theirs) {
            Ok(ahead) => millis(ahead),
            Err(behind) => -millis(behind.duration()),
        };
        // A difference that changed with each look would make all leases change.
        if ahead.abs_diff(self.ahead_ms.load(Ordering::Relaxed)) > TOLERANCE_MS.unsigned_abs() {
            let ahead = if ahead.abs() <= TOLERANCE_MS { 0 } else { ahead };
            self.ahead_ms.store(ahead, Ordering::Relaxed);
        }
    }

    /// What time it is for the file system.
    pub(super) fn now(&self) -> SystemTime {
        shifted(SystemTime::now(), -self.ahead_ms.load(Ordering::Relaxed))
    }

    /// When this machine's clock shows what is this time for the file system.
    pub(super) fn to_ours(&self, theirs: SystemTime) -> SystemTime {
        shifted(theirs, self.ahead_ms.load(Ordering::Relaxed))
    }
}

fn shifted(time: SystemTime, by_ms: i64) -> SystemTime {
    let by = Duration::from_millis(by_ms.unsigned_abs());
    let shifted = if by_ms < 0 { time.checked_sub(by) } else { time.checked_add(by) };
    shifted.unwrap_or(time)
}

/// Has the file system stamp a file with its own time.
fn stamp(dir: &Dir, file: &str) -> io::Result<SystemTime> {
    let mut options = OpenOptions::new();
    let file = dir.open_with(file, options.create(true).write(true).custom_flags(NONBLOCK))?;
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    futimens(&file, &Timestamps { last_access: omit, last_modification: now })?;
    Ok(file.metadata()?.modified()?.into_std())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use cap_std::ambient_authority;

    use super::*;

    #[test]
    fn a_clock_that_is_ahead_or_behind_is_taken_for_what_it_is() {
        for hours in [-25, 0, 25] {
            let ahead_ms = hours * 3_600_000;
            let clock = Clock { ahead_ms: AtomicI64::new(ahead_ms) };
            let theirs = clock.now();
            let ours = clock.to_ours(theirs);
            assert!(SystemTime::now().duration_since(ours).is_ok_and(|late| late < Duration::from_secs(5)));
            let apart = match ours.duration_since(theirs) {
                Ok(apart) => millis(apart),
                Err(error) => -millis(error.duration()),
            };
            assert_eq!(apart, ahead_ms);
        }
    }

    #[test]
    fn the_file_systems_own_time_counts_and_its_grain_does_not() {
        let directory = tempfile::tempdir().expect("directory");
        let dir = Dir::open_ambient_dir(directory.path(), ambient_authority()).expect("opened");
        let clock = Clock { ahead_ms: AtomicI64::new(90_000_000) };
        clock.set_by(&dir, ".lock");
        assert_eq!(clock.ahead_ms.load(Ordering::Relaxed), 0, "here they are one and the same");
        clock.ahead_ms.store(500, Ordering::Relaxed);
        clock.set_by(&dir, ".lock");
        assert_eq!(clock.ahead_ms.load(Ordering::Relaxed), 500);
        clock.set_by(&dir, "nowhere/at/all");
        assert_eq!(clock.ahead_ms.load(Ordering::Relaxed), 500);
    }
}
