//! How long is waited for what.

use std::time::Duration;

use flannel_base::Backoff;

use crate::error::KubeError;
use crate::random::up_to;

/// Waits, each without the chance that is in it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// After what failed.
    pub backoff: Backoff,
    /// After what is not allowed, until somebody allows it.
    pub forbidden: Duration,
    /// Before an empty list is believed of a server that had nodes.
    pub empty: Duration,
    /// For so long nobody asks again for what the server does not know.
    pub unknown: Duration,
    /// At most so long before a new node's CIDRs are asked for: thousands of daemons ask for the same one.
    pub spread: Duration,
    /// At most so long before a new node's CIDRs, told as its annotation has them, are compared with its object, if nothing else is in the way.
    pub check: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            backoff: Backoff { min: Duration::from_millis(800), max: Duration::from_secs(30) },
            forbidden: Duration::from_secs(30),
            empty: Duration::from_secs(5),
            unknown: Duration::from_hours(1),
            spread: Duration::from_secs(2),
            check: Duration::from_mins(1),
        }
    }
}

impl Pace {
    /// The wait after an error, when so many attempts had failed before. What the server asks for is waited at least.
    pub(super) fn after(&self, error: &KubeError, failures: u32) -> Duration {
        match (error.retry_after(), error) {
            (Some(asked), _) => asked + up_to(self.backoff.min),
            (None, KubeError::Forbidden { .. }) => self.forbidden,
            (None, _) => up_to(self.backoff.after(failures)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_asks_for_is_waited_at_least() {
        let asked = Duration::from_secs(7);
        let error = KubeError::TooManyRequests { retry_after: Some(asked), message: String::new() };
        let wait = Pace::default().after(&error, 0);
        assert!(wait >= asked && wait <= asked + Pace::default().backoff.min, "{wait:?}");
    }

    #[test]
    fn waits_grow_and_have_an_end() {
        let error = KubeError::Unreachable { address: String::new(), reason: String::new() };
        let pace = Pace::default();
        for failures in [0, 1, 5, 99] {
            assert!(pace.after(&error, failures) <= pace.backoff.after(failures));
        }
        let longest = (0..50).map(|_| pace.after(&error, 99)).max().expect("waits");
        assert!(longest > pace.backoff.min && longest <= pace.backoff.max, "{longest:?}");
    }
}
