//! One request, sent until there is an answer that stays one: again where that is safe, never longer than it may take, and without
//! anything secret in what comes back.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use flannel_base::{Backoff, TokenBucket};
use http_body_util::Full;
use tokio::sync::watch;
use tokio::time::{sleep, timeout_at};
use tracing::debug;

use super::redact::redact;
use super::request::{Answer, Failure};
use super::vendor::{Prepared, ResponseClass};
use crate::http::{Http, HttpError, Timeouts};

/// So often a request is sent at the most.
const ATTEMPTS: u32 = 6;
/// Waits before another attempt; the real one is anything from half of it to all of it, so that
/// nodes that were turned away together do not come back together.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(250), max: Duration::from_secs(8) };
/// Requests of this node: so many at once, and then one each such time. Clouds count all nodes of an account together, and turn all away when
/// there are too many.
const PACE: (u32, Duration) = (100, Duration::from_millis(50));
/// Bytes of the largest answer.
pub(crate) const MAX_ANSWER_BYTES: usize = 4 << 20;
/// How long the other side may take.
pub(crate) const TIMES: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(10),
    whole: Duration::from_secs(30),
};
/// Headers that are nobody's business.
const WITHHELD: [&str; 7] = [
    "set-cookie",
    "authorization",
    "www-authenticate",
    "proxy-authenticate",
    "x-amz-security-token",
    "x-auth-token",
    "x-subject-token",
];

/// A request, and whom it is for.
#[async_trait]
pub(crate) trait Exchange: Send + Sync {
    /// Addresses and signs it. Called anew for each attempt.
    async fn prepare(&self, http: &Http) -> Result<Prepared, Failure>;

    /// What an answer means.
    fn classify(&self, answer: &Answer) -> ResponseClass;

    /// The next attempt has other credentials, if there are any.
    fn forget_credentials(&self);

    /// It may be sent again when it is not known whether it was carried out.
    fn is_idempotent(&self) -> bool;

    /// Whom it is for, and what it is, for the log.
    fn shown(&self) -> (String, String);
}

/// How one attempt ended.
enum Attempt {
    Answered(Answer, ResponseClass),
    /// Nothing was sent, or nobody will have heard it.
    Unsent(String),
    /// It may have been carried out.
    Unknown(String),
}

/// Who sends, at the pace that a node may have.
pub(crate) struct Exchanger {
    pace: Mutex<TokenBucket>,
    /// True once nobody waits for answers any more.
    closed: watch::Sender<bool>,
}

impl Exchanger {
    /// Nothing was sent yet.
    pub(crate) fn new() -> Self {
        Self {
            pace: Mutex::new(TokenBucket::full(PACE.0, PACE.1, Instant::now())),
            closed: watch::Sender::new(false),
        }
    }

    /// Nobody waits any more: what is under way fails, and so does all that comes.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Does something, as long as somebody waits for it.
    pub(crate) async fn unless_closed<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut closed = self.closed.subscribe();
        tokio::select! {
            // The sender is part of this, and there as long as it is.
            _ = closed.wait_for(|closed| *closed) => {
                Err(Failure::Unreachable("flanneld is about to end".to_owned()))
            }
            done = work => done,
        }
    }

    /// Sends a request; all has to be over by the deadline.
    pub(crate) async fn send(
        &self,
        http: &Http,
        exchange: &dyn Exchange,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        self.unless_closed(self.repeat(http, exchange, deadline)).await
    }

    async fn repeat(
        &self,
        http: &Http,
        exchange: &dyn Exchange,
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
            let attempt = match timeout_at(deadline.into(), attempt(http, exchange)).await {
                Ok(attempt) => attempt?,
                Err(_) => Attempt::Unknown("there was no answer in the time that was left".to_owned()),
            };
            let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let wait = backoff(attempts);
            let (to, operation) = exchange.shown();
            let (wait, outcome) = match attempt {
                Attempt::Answered(answer, verdict) => {
                    debug!(to, operation, status = answer.status, attempts, took_ms, "cloud answered");
                    let answer = Answer { attempts, ..answer };
                    let wait = match verdict {
                        ResponseClass::Final => return Ok(answer),
                        ResponseClass::Failed if !exchange.is_idempotent() => return Ok(answer),
                        ResponseClass::Failed => wait,
                        ResponseClass::Throttled(least) => wait.max(least.unwrap_or_default()),
                        // Once: others that are not good enough either are for the operator.
                        ResponseClass::CredentialsRefused if refused => return Ok(answer),
                        ResponseClass::CredentialsRefused => {
                            refused = true;
                            exchange.forget_credentials();
                            Duration::ZERO
                        }
                    };
                    (wait, Ok(answer))
                }
                Attempt::Unsent(reason) => (wait, Err(reason)),
                Attempt::Unknown(reason) if exchange.is_idempotent() => (wait, Err(reason)),
                Attempt::Unknown(reason) => return Err(Failure::Unreachable(reason)),
            };
            if attempts >= ATTEMPTS || Instant::now() + wait >= deadline {
                let tried = |reason| Failure::Unreachable(format!("{reason} (sent {attempts} times)"));
                return outcome.map_err(tried);
            }
            if let Err(reason) = &outcome {
                debug!(to, operation, reason, attempts, "no answer");
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
}

/// Sends it once.
async fn attempt(http: &Http, exchange: &dyn Exchange) -> Result<Attempt, Failure> {
    let Prepared { method, url, headers, body, secrets } = exchange.prepare(http).await?;
    let mut sent = hyper::Request::new(Full::new(body));
    *sent.method_mut() = method;
    sent.headers_mut().extend(headers);
    let clean = |error: HttpError| redact(&error.to_string(), &secrets).into_owned();
    let answer = match http.send(&url, sent, TIMES.answer).await {
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
    let verdict = exchange.classify(&answer);
    Ok(Attempt::Answered(answer, verdict))
}

/// How long to wait after so many attempts.
fn backoff(attempts: u32) -> Duration {
    let longest = BACKOFF.after(attempts - 1);
    let mut byte = [0];
    // Without randomness the wait is the longest.
    let share = getrandom::fill(&mut byte).map_or(255, |()| u32::from(byte[0]));
    longest / 2 + longest * share / 510
}
