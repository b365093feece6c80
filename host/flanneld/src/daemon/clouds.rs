//! Clouds, asked from the thread on which the policy runs.

use std::sync::{Arc, Once};
use std::time::Instant;

use tokio::runtime::Handle;

use flannel_cloud::{Answer, Client, CloudOptions, Failure, Instance, Provider, Request};
use flannel_plugin_host::Clouds;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tracing::warn;

/// Where requests go. When it is dropped, whoever waits for an answer gets a failure, and the thread is free.
pub(super) struct CloudClientGuard(Arc<Client>);

impl CloudClientGuard {
    /// With what the operator has said. Must be called in a runtime.
    pub(super) fn open(options: CloudOptions) -> Self {
        Self(Arc::new(Client::new(options)))
    }

    /// Whom the policy asks.
    pub(super) fn client(&self) -> Arc<dyn Clouds> {
        Arc::new(BlockingCloudClient { client: Arc::clone(&self.0), runtime: Handle::current() })
    }
}

impl Drop for CloudClientGuard {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct BlockingCloudClient {
    client: Arc<Client>,
    runtime: Handle,
}

impl Clouds for BlockingCloudClient {
    fn send(&self, request: &Request, deadline: Instant) -> Result<Answer, Failure> {
        disable_core_dumps();
        self.runtime.block_on(self.client.send(request, deadline))
    }

    fn instance(&self, provider: Provider, deadline: Instant) -> Result<Instance, Failure> {
        disable_core_dumps();
        self.runtime.block_on(self.client.instance(provider, deadline))
    }

    fn region(&self, provider: Provider, deadline: Instant) -> Result<String, Failure> {
        disable_core_dumps();
        self.runtime.block_on(self.client.region(provider, deadline))
    }
}

/// From the first request on there are credentials in memory, in places that others' code chooses: no core dump of this process is
/// written, and nobody but root reads its memory.
fn disable_core_dumps() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            warn!(%error, "a core dump of this process would have the cloud's credentials in it");
        }
    });
}
