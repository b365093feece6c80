//! Sends requests: again where that is safe, never longer than it may take, and without anything secret in what comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flannel_base::{Backoff, TokenBucket};
use http_body_util::Full;
use tokio::sync::watch;
use tokio::time::{sleep, timeout_at};
use tracing::{debug, warn};

use super::options::CloudOptions;
use super::redact::redact;
use super::request::{Answer, Failure, Instance, Provider, Request};
use super::vendor::{Prepared, ResponseClass, Vendor};
use crate::http::{CleartextPolicy, Http, HttpError, Timeouts, Url, is_loopback};

/// So often a request is sent at the most.
const ATTEMPTS: u32 = 6;
/// Waits before another attempt; the real one is anything from half of it to all of it, so that
/// nodes that were turned away together do not come back together.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(250), max: Duration::from_secs(8) };
/// Requests of this node: so many at once, and then one each such time. Clouds count all nodes of an account together, and turn all away when
/// there are too many.
const PACE: (u32, Duration) = (100, Duration::from_millis(50));
/// How long what the metadata service says is good for.
const METADATA_CACHE_TTL: Duration = Duration::from_mins(1);
/// Bytes of the largest answer.
pub(crate) const MAX_ANSWER_BYTES: usize = 4 << 20;
/// How long a cloud may take.
const TIMES: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(10),
    whole: Duration::from_secs(30),
};
/// Headers that are nobody's business.
const WITHHELD: [&str; 5] =
    ["set-cookie", "authorization", "www-authenticate", "proxy-authenticate", "x-amz-security-token"];

/// All clouds, for one plugin after the other.
pub struct Client {
    http: Http,
    vendors: BTreeMap<Provider, Arc<dyn Vendor>>,
    instances: Mutex<BTreeMap<Provider, (Instant, Instance)>>,
    /// Those that are asked without TLS, once that has been said.
    in_clear: Mutex<BTreeSet<String>>,
    pace: Mutex<TokenBucket>,
    /// True once nobody waits for answers any more.
    closed: watch::Sender<bool>,
}

/// How one attempt ended.
enum Attempt {
    Answered(Answer, ResponseClass),
    /// Nothing was sent, or nobody will have heard it.
    Unsent(String),
    /// It may have been carried out.
    Unknown(String),
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
            pace: Mutex::new(TokenBucket::full(PACE.0, PACE.1, Instant::now())),
            closed: watch::Sender::new(false),
        }
    }

    /// Nobody waits any more: what is under way fails, and so does all that comes.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Sends a request; all has to be over by the deadline.
    pub async fn send(&self, request: &Request, deadline: Instant) -> Result<Answer, Failure> {
        let vendor = self.vendor(request.provider)?;
        // Whoever asks: nothing else is ever signed.
        request.check()?;
        self.unless_closed(self.repeat(&**vendor, request, deadline)).await
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
        let instance = self.unless_closed(asked).await?;
        self.instances().insert(provider, (Instant::now(), instance.clone()));
        Ok(instance)
    }

    /// This machine's region: the one that is asked where a request names none.
    pub async fn region(&self, provider: Provider, deadline: Instant) -> Result<String, Failure> {
        let vendor = self.vendor(provider)?;
        let said = timeout_at(deadline.into(), vendor.region(&self.http));
        let late = || Failure::Unreachable("the metadata service has not answered in time".to_owned());
        let said = async { said.await.unwrap_or_else(|_| Err(late())) };
        match self.unless_closed(said).await? {
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

    async fn unless_closed<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let mut closed = self.closed.subscribe();
        tokio::select! {
            // The sender is part of this client, and there as long as it is.
            _ = closed.wait_for(|closed| *closed) => {
                Err(Failure::Unreachable("flanneld is about to end".to_owned()))
            }
            done = work => done,
        }
    }

    async fn repeat(
        &self,
        vendor: &dyn Vendor,
        request: &Request,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let started = Instant::now();
        let (mut attempts, mut refused) = (0, false);
        loop {
            attempts += 1;
            if timeout_at(deadline.into(), self.turn()).await.is_err() {
                let reason = "this node has made too many requests: there was no time left for this one";
                return Err(Failure::Unreachable(reason.to_owned()));
            }
            let attempt = timeout_at(deadline.into(), self.attempt(vendor, request)).await;
            let attempt = match attempt {
                Ok(attempt) => attempt?,
                Err(_) => Attempt::Unknown("there was no answer in the time that was left".to_owned()),
            };
            let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let wait = backoff(attempts);
            let (wait, outcome) = match attempt {
                Attempt::Answered(answer, verdict) => {
                    debug!(
                        provider = %request.provider, service = request.service, operation = %request.operation,
                        status = answer.status, attempts, took_ms, "cloud answered"
                    );
                    let answer = Answer { attempts, ..answer };
                    let wait = match verdict {
                        ResponseClass::Final => return Ok(answer),
                        ResponseClass::Failed if !request.idempotent => return Ok(answer),
                        ResponseClass::Failed => wait,
                        ResponseClass::Throttled(least) => wait.max(least.unwrap_or_default()),
                        // Once: others that are not good enough either are for the operator.
                        ResponseClass::CredentialsRefused if refused => return Ok(answer),
                        ResponseClass::CredentialsRefused => {
                            refused = true;
                            vendor.forget_credentials();
                            Duration::ZERO
                        }
                    };
                    (wait, Ok(answer))
                }
                Attempt::Unsent(reason) => (wait, Err(reason)),
                Attempt::Unknown(reason) if request.idempotent => (wait, Err(reason)),
                Attempt::Unknown(reason) => return Err(Failure::Unreachable(reason)),
            };
            if attempts >= ATTEMPTS || Instant::now() + wait >= deadline {
                let tried = |reason| Failure::Unreachable(format!("{reason} (sent {attempts} times)"));
                return outcome.map_err(tried);
            }
            if let Err(reason) = &outcome {
                debug!(provider = %request.provider, operation = %request.operation, reason, attempts, "no answer");
            }
            sleep(wait).await;
        }
    }

    /// Waits until there may be another request.
    async fn turn(&self) {
        loop {
            let wait = {
                let (mut pace, now) =
                    (self.pace.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
                if pace.take(1, now) {
                    return;
                }
                pace.wait(1, now)
            };
            sleep(wait).await;
        }
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

    /// Sends it once.
    async fn attempt(&self, vendor: &dyn Vendor, request: &Request) -> Result<Attempt, Failure> {
        let Prepared { method, url, headers, body, secrets } = vendor.prepare(&self.http, request).await?;
        self.warn_if_in_clear(&url);
        let mut sent = hyper::Request::new(Full::new(body));
        *sent.method_mut() = method;
        sent.headers_mut().extend(headers);
        let clean = |error: HttpError| redact(&error.to_string(), &secrets).into_owned();
        let answer = match self.http.send(&url, sent, TIMES.answer).await {
            Ok(answer) => answer,
            Err(error @ HttpError::ConnectFailed { .. }) => return Ok(Attempt::Unsent(clean(error))),
            Err(error @ HttpError::Interrupted { .. }) => return Ok(Attempt::Unknown(clean(error))),
            Err(error) => return Err(Failure::Unreachable(clean(error))),
        };
        let status = answer.response.status().as_u16();
        let headers = answer.response.headers().iter();
        let headers: Vec<(String, String)> = headers
            .filter(|(name, _)| !WITHHELD.contains(&name.as_str()))
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                (name.as_str().to_owned(), redact(&value, &secrets).into_owned())
            })
            .collect();
        let body = match answer.body("answer", MAX_ANSWER_BYTES).await {
            Ok(body) => body,
            Err(error @ HttpError::Interrupted { .. }) => return Ok(Attempt::Unknown(clean(error))),
            Err(error) => return Err(Failure::Unreachable(clean(error))),
        };
        let body = redact(&String::from_utf8_lossy(&body), &secrets).into_owned();
        let answer = Answer { status, headers, body, attempts: 0 };
        let verdict = vendor.classify(&answer);
        Ok(Attempt::Answered(answer, verdict))
    }
}

/// How long to wait after so many attempts.
fn backoff(attempts: u32) -> Duration {
    let longest = BACKOFF.after(attempts - 1);
    let mut byte = [0];
    // Without randomness the wait is the longest.
    let share = getrandom::fill(&mut byte).map_or(255, |()| u32::from(byte[0]));
    longest / 2 + longest * share / 510
}
