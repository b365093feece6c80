//! Sends requests to clouds, and asks them what this machine is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::time::timeout_at;
use tracing::warn;

use super::exchange::{Exchange, Exchanger, TIMES};
use super::options::CloudOptions;
use super::request::{Answer, Failure, Instance, Provider, Request};
use super::vendor::{Prepared, ResponseClass, Vendor};
use crate::http::{CleartextPolicy, Http, Url, is_loopback};

/// How long what the metadata service says is good for.
const METADATA_CACHE_TTL: Duration = Duration::from_mins(1);

/// All clouds, for one plugin after the other.
pub struct Client {
    http: Http,
    vendors: BTreeMap<Provider, Arc<dyn Vendor>>,
    instances: Mutex<BTreeMap<Provider, (Instant, Instance)>>,
    /// Those that are asked without TLS, once that has been said.
    in_clear: Mutex<BTreeSet<String>>,
    exchanger: Exchanger,
}

/// A request to a cloud.
struct CloudExchange<'a> {
    client: &'a Client,
    vendor: &'a dyn Vendor,
    request: &'a Request,
}

#[async_trait]
impl Exchange for CloudExchange<'_> {
    async fn prepare(&self, http: &Http) -> Result<Prepared, Failure> {
        let prepared = self.vendor.prepare(http, self.request).await?;
        self.client.warn_if_in_clear(&prepared.url);
        Ok(prepared)
    }

    fn classify(&self, answer: &Answer) -> ResponseClass {
        self.vendor.classify(answer)
    }

    fn forget_credentials(&self) {
        self.vendor.forget_credentials();
    }

    fn is_idempotent(&self) -> bool {
        self.request.idempotent
    }

    fn shown(&self) -> (String, String) {
        let Request { provider, service, operation, .. } = self.request;
        (format!("{provider}:{service}"), operation.to_string())
    }
}

impl Client {
    /// With what the operator has said. Nothing is read, and nobody is asked, before there is a request.
    pub fn new(options: CloudOptions) -> Self {
        let vendors = super::vendors(&options);
        Self::with(options, vendors)
    }

    /// With these clouds and no others.
    pub fn with(options: CloudOptions, vendors: BTreeMap<Provider, Arc<dyn Vendor>>) -> Self {
        Self {
            http: Http::new(options.authorities, CleartextPolicy::Anywhere, TIMES),
            vendors,
            instances: Mutex::default(),
            in_clear: Mutex::default(),
            exchanger: Exchanger::new(),
        }
    }

    /// Nobody waits any more: what is under way fails, and so does all that comes.
    pub fn close(&self) {
        self.exchanger.close();
    }

    /// Sends a request; all has to be over by the deadline.
    pub async fn send(&self, request: &Request, deadline: Instant) -> Result<Answer, Failure> {
        let vendor = self.vendor(request.provider)?;
        // Whoever asks: nothing else is ever signed.
        request.check()?;
        let exchange = CloudExchange { client: self, vendor: &**vendor, request };
        self.exchanger.send(&self.http, &exchange, deadline).await
    }

    /// What this machine is. Asked anew after a minute.
    pub async fn instance(&self, provider: Provider, deadline: Instant) -> Result<Instance, Failure> {
        let kept =
            self.instances().get(&provider).filter(|(at, _)| at.elapsed() < METADATA_CACHE_TTL).cloned();
        if let Some((_, instance)) = kept {
            return Ok(instance);
        }
        let vendor = self.vendor(provider)?;
        let asked = timeout_at(deadline.into(), vendor.instance(&self.http));
        let late = || Failure::Unreachable("the metadata service has not answered in time".to_owned());
        let asked = async { asked.await.unwrap_or_else(|_| Err(late())) };
        let instance = self.exchanger.unless_closed(asked).await?;
        self.instances().insert(provider, (Instant::now(), instance.clone()));
        Ok(instance)
    }

    /// This machine's region: the one that is asked where a request names none.
    pub async fn region(&self, provider: Provider, deadline: Instant) -> Result<String, Failure> {
        let vendor = self.vendor(provider)?;
        let said = timeout_at(deadline.into(), vendor.region(&self.http));
        let late = || Failure::Unreachable("the metadata service has not answered in time".to_owned());
        let said = async { said.await.unwrap_or_else(|_| Err(late())) };
        match self.exchanger.unless_closed(said).await? {
            Some(region) => Ok(region),
            None => Ok(self.instance(provider, deadline).await?.region),
        }
    }

    fn instances(&self) -> MutexGuard<'_, BTreeMap<Provider, (Instant, Instance)>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vendor(&self, provider: Provider) -> Result<&Arc<dyn Vendor>, Failure> {
        let missing = || Failure::Invalid(format!("this flanneld has no provider {provider}"));
        self.vendors.get(&provider).ok_or_else(missing)
    }

    /// Says once of each endpoint that others on the way can read what it is asked.
    fn warn_if_in_clear(&self, url: &Url) {
        if url.secure || is_loopback(&url.host) {
            return;
        }
        let mut said = self.in_clear.lock().unwrap_or_else(PoisonError::into_inner);
        if said.insert(url.authority()) {
            warn!(
                endpoint = format!("http://{}", url.authority()),
                "requests to the cloud, with the credentials in them, go over the network without TLS: whoever is on the way can read them; right would be https"
            );
        }
    }
}
