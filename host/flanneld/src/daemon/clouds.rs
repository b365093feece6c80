//! Clouds and endpoints, asked from the thread on which the policy runs.

use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;

use flannel_cloud::{
    Answer, Client, CloudOptions, EndpointClient, EndpointRequest, Failure, Instance, Provider, Request,
};
use flannel_plugin_host::{Clouds, Endpoints};
use tokio::sync::oneshot;

/// Where requests go. When it is dropped, whoever waits for an answer gets a failure, and the thread is free.
pub(super) struct CloudClientGuard(Arc<Client>, Arc<EndpointClient>);

impl CloudClientGuard {
    /// With what the operator has said.
    pub(super) fn open(options: CloudOptions, endpoints: flannel_cloud::Endpoints) -> Self {
        let endpoints = EndpointClient::new(endpoints, options.clone());
        Self(Arc::new(Client::new(options)), Arc::new(endpoints))
    }

    /// Whom the policy asks about clouds; requests are sent, and answers read, in this runtime.
    pub(super) fn client(&self, runtime: Handle) -> Arc<dyn Clouds> {
        Arc::new(Blocking { client: Arc::clone(&self.0), runtime })
    }

    /// Whom it asks about endpoints, in the same way.
    pub(super) fn endpoints(&self, runtime: Handle) -> Arc<dyn Endpoints> {
        Arc::new(Blocking { client: Arc::clone(&self.1), runtime })
    }
}

impl Drop for CloudClientGuard {
    fn drop(&mut self) {
        self.0.close();
        self.1.close();
    }
}

struct Blocking<C> {
    client: Arc<C>,
    runtime: Handle,
}

impl<C> Blocking<C> {
    /// Waits for something that is done in the runtime; the policy's own thread connects to nobody.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        self.runtime.spawn(async move {
            // Whoever asked may be gone.
            let _ = answer.send(work.await);
        });
        let ended = |_| Err(Failure::Unreachable("flanneld is about to end".to_owned()));
        answered.blocking_recv().unwrap_or_else(ended)
    }
}

impl Clouds for Blocking<Client> {
    fn send(&self, request: &Request, deadline: Instant) -> Result<Answer, Failure> {
        let (client, request) = (Arc::clone(&self.client), request.clone());
        self.wait(async move { client.send(&request, deadline).await })
    }

    fn instance(&self, provider: Provider, deadline: Instant) -> Result<Instance, Failure> {
        let client = Arc::clone(&self.client);
        self.wait(async move { client.instance(provider, deadline).await })
    }

    fn region(&self, provider: Provider, deadline: Instant) -> Result<String, Failure> {
        let client = Arc::clone(&self.client);
        self.wait(async move { client.region(provider, deadline).await })
    }
}

impl Endpoints for Blocking<EndpointClient> {
    fn names(&self) -> Vec<String> {
        self.client.names().map(str::to_owned).collect()
    }

    fn operation(&self, request: &EndpointRequest) -> Result<String, Failure> {
        self.client.operation(request)
    }

    fn send(&self, request: &EndpointRequest, deadline: Instant) -> Result<Answer, Failure> {
        let (client, request) = (Arc::clone(&self.client), request.clone());
        self.wait(async move { client.send(&request, deadline).await })
    }
}
