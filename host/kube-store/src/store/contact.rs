//! Whether the nodes are heard of, and what is wrong if not: said in the log, and known to whoever wants to know.

use std::time::{Duration, Instant};

use flannel_base::LogThrottle;
use flannel_kube_api::ReflectorState;
use tokio::sync::watch;
use tracing::{info, warn};

use super::reasons;

/// How often trouble that lasts is said again.
const REMIND: Duration = Duration::from_mins(1);

/// Tells of a reflector's trouble, and of its end, until one of both is gone. `what`: what is followed.
pub(super) async fn follow(
    what: &str,
    mut state: watch::Receiver<ReflectorState>,
    trouble: watch::Sender<Option<String>>,
) {
    let mut throttle = LogThrottle::new(Some(REMIND));
    let mut said = false;
    loop {
        let error = state.borrow_and_update().last_error.clone();
        let reason = error.map(|error| reasons::of(what.to_owned(), &error).to_string());
        if let Some(reason) = &reason {
            if throttle.says(reason, Instant::now()) {
                warn!("{reason}; trying again, and going on with what is known");
                said = true;
            }
        } else {
            if said {
                info!("{what} are heard of again");
            }
            said = false;
            throttle.reset();
        }
        trouble.send_if_modified(|trouble| {
            let is_news = *trouble != reason;
            *trouble = reason;
            is_news
        });
        if state.changed().await.is_err() {
            return;
        }
    }
}
