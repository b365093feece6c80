//! Clouds, asked from the thread on which the policy runs.

use std::sync::{Arc, Once};
use std::time::Instant;

use tokio::runtime::Handle;

use flannel_cloud::{Answer, Client, CloudOptions, Failure, Instance, Provider, Request};
use flannel_plugin_host::Clouds;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tracing::warn;

/// Where requests go. When it is dropped, whoever waits for an answer gets a failure, and the thread is free.
pub(super) struct CloudDesk(Arc<Client>);

impl CloudDesk {
    /// With what the operator has said. Must be called in a runtime.
    pub(super) fn open(options: CloudOptions) -> Self {
        Self(Arc::new(Client::new(options)))
    }

    /// Whom the policy asks.
    pub(super) fn clerk(&self) -> Arc<dyn Clouds> {
        Arc::new(Clerk { client: Arc::clone(&self.0), runtime: Handle::current() })
    }
}

impl Drop for CloudDesk {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Clerk {
    client: Arc<Client>,
    runtime: Handle,
}

impl Clouds for Clerk {
    fn send(&self, request: &Request, deadline: Instant) -> Result<Answer, Failure> {
        leave_no_cores();
        self.runtime.block_on(self.client.send(request, deadline))
    }

    fn instance(&self, provider: Provider, deadline: Instant) -> Result<Instance, Failure> {
        leave_no_cores();
        self.runtime.block_on(self.client.instance(provider, deadline))
    }
}

/// From the first request on there are credentials in memory, in places that others' code chooses: no core dump of this process is
/// written, and nobody but root reads its memory.
fn leave_no_cores() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            warn!(%error, "a core dump of this process would have the cloud's credentials in it");
        }
    });
}
