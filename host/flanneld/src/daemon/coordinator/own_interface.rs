//! The external interface: kept as long as it is there, under the address that the node is known by. A moment without that address is no
//! reason to be another node.

use std::time::{Duration, Instant};

use flannel_base::LogThrottle;
use flannel_telemetry::Step;
use tracing::{info, warn};

use super::{Coordinator, News};
use crate::node::external::External;

/// How long a node waits for its address, or for its interface, before it goes on with another one: a network manager that sets an
/// interface up anew takes them away for that long.
pub(in crate::daemon) const ADDRESS_GRACE: Duration = Duration::from_secs(3);
/// How soon it is looked again while there is no address: the kernel tells of most changes by itself.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often the log repeats that the address is away.
const REMIND: Duration = Duration::from_mins(1);

/// How things stand with the external interface.
pub(super) struct InterfaceWatch {
    /// The next look is to choose as a start would.
    pub(super) afresh: bool,
    /// Since when the node would have another address or interface.
    elsewhere: Option<Instant>,
    /// The address that the node is known by is not there.
    away: bool,
    throttle: LogThrottle,
}

impl Default for InterfaceWatch {
    fn default() -> Self {
        Self { afresh: false, elsewhere: None, away: false, throttle: LogThrottle::new(Some(REMIND)) }
    }
}

impl Coordinator {
    /// A look at the interfaces has shown this. `afresh`: an operator wanted it chosen anew.
    pub(super) fn external_seen(&mut self, outcome: Result<External, String>, afresh: bool, now: Instant) {
        match outcome {
            Ok(external) if external.is_interchangeable(&self.external) => {
                self.watch.elsewhere = None;
                self.set_away(false);
                if external != self.external {
                    let gate = self.view.gate().at(&external);
                    self.external = external;
                    let delta = self.view.set_gate(gate);
                    self.submit(delta, now);
                }
            }
            Ok(external) => {
                let is_same_node =
                    external.name == self.external.name && external.addresses().eq(self.external.addresses());
                let first = self.watch.elsewhere.is_none();
                let since = *self.watch.elsewhere.get_or_insert(now);
                if is_same_node || afresh || now >= since + ADDRESS_GRACE {
                    self.restart = Some(external);
                    return;
                }
                self.set_away(true);
                self.look_by(since + ADDRESS_GRACE);
                if first {
                    info!(
                        wait_s = ADDRESS_GRACE.as_secs(),
                        "the node's address is not at {}: waiting for it, before it goes on with what {} has",
                        self.external.name,
                        external.name
                    );
                }
            }
            Err(reason) => {
                self.watch.elsewhere = None;
                if self.watch.throttle.says(&reason, now) {
                    warn!(reason, "the external interface is not what it was; going on with what there is");
                }
                self.set_away(true);
                self.look_by(now + LOOK_AGAIN);
            }
        }
    }

    fn look_by(&mut self, time: Instant) {
        self.debounce = Some(self.debounce.map_or(time, |due| due.min(time)));
    }

    /// Others do not reach a node without its address.
    fn set_away(&mut self, away: bool) {
        if self.watch.away != away {
            self.watch.away = away;
            self.tell(News::Step(Step::Interface, !away));
        }
        if !away {
            self.watch.throttle.reset();
        }
    }
}
