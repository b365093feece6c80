//! The members of an etcd cluster: a connection to one of them, and to the next where that one fails. Every call has a
//! deadline.

use std::error::Error as _;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error};
use flannel_base::text::one_line;
use tokio::time::timeout;
use tracing::debug;

use super::{EtcdSecurity, tls};
use crate::store::StoreError;

/// How long connecting, and authenticating, may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// How often an idle connection with a watch is probed, and how long the answer may take. etcd refuses probes more often
/// than every 5 seconds, and any while there is no stream.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// gRPC status codes that no waiting changes. All others may pass: deadlines, overload, an etcd lease that is gone.
const FINAL: [i32; 5] =
    [INVALID_ARGUMENT, PERMISSION_DENIED, FAILED_PRECONDITION, OUT_OF_RANGE, UNAUTHENTICATED];
const INVALID_ARGUMENT: i32 = 3;
const PERMISSION_DENIED: i32 = 7;
const FAILED_PRECONDITION: i32 = 9;
/// What etcd says of a revision that is compacted.
pub(super) const OUT_OF_RANGE: i32 = 11;
const UNAUTHENTICATED: i32 = 16;

/// A cluster.
pub(super) struct Cluster {
    members: Vec<Member>,
    /// The member that is asked first: the one that answered last.
    current: AtomicUsize,
}

struct Member {
    endpoint: String,
    options: ConnectOptions,
    /// The same without a user, for an etcd that has authentication turned off.
    without_user: ConnectOptions,
    client: Mutex<Option<Client>>,
}

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// No member answered; may pass.
    Away(String),
    /// A member said no.
    Refused {
        /// The gRPC status code.
        code: i32,
        /// Who, and what it said.
        reason: String,
    },
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let place = "etcd".to_owned();
        match failure {
            Failure::Away(reason) => Self::Unavailable { place, reason },
            Failure::Refused { reason, .. } => Self::Refused { place, reason },
        }
    }
}

impl Cluster {
    pub(super) fn new(endpoints: &[String], security: &EtcdSecurity) -> Result<Self, StoreError> {
        let members: Result<Vec<Member>, StoreError> = endpoints
            .iter()
            .map(|endpoint| endpoint.trim())
            .filter(|endpoint| !endpoint.is_empty())
            .map(|endpoint| Member::new(endpoint, security))
            .collect();
        let members = members?;
        if members.is_empty() {
            let reason = "right would be URLs such as http://127.0.0.1:2379".to_owned();
            return Err(StoreError::Setup { what: "etcd endpoints", value: "(none)".to_owned(), reason });
        }
        Ok(Self { members, current: AtomicUsize::new(0) })
    }

    /// The endpoints, for messages.
    pub(super) fn place(&self) -> String {
        let endpoints: Vec<&str> = self.members.iter().map(|member| member.endpoint.as_str()).collect();
        endpoints.join(", ")
    }

    /// Asks the members in turn until one answers. A call whose answer got lost is repeated: it must be one that can be.
    pub(super) async fn call<T, F>(&self, call: impl Fn(Client) -> F + Send + Sync) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let mut reasons: Vec<String> = Vec::new();
        for _ in 0..self.members.len() {
            let (index, client) = match self.client().await {
                (index, Ok(client)) => (index, client),
                (index, Err(failure)) => {
                    self.note(index, failure, &mut reasons)?;
                    continue;
                }
            };
            match timeout(ANSWER, call(client)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => self.note(index, self.members[index].failure(&error), &mut reasons)?,
                Err(_) => self.note(index, self.members[index].late(ANSWER), &mut reasons)?,
            }
        }
        // In an order that does not depend on who was asked first, so that the log sees the same message as the same.
        reasons.sort_unstable();
        Err(Failure::Away(reasons.join("; ")))
    }

    /// A connection to the current member, and its number.
    pub(super) async fn client(&self) -> (usize, Result<Client, Failure>) {
        let index = self.current.load(Ordering::Relaxed) % self.members.len();
        (index, self.members[index].client().await)
    }

    /// Turns an error of a member into a failure.
    pub(super) fn failure(&self, index: usize, error: &Error) -> Failure {
        self.members[index].failure(error)
    }

    /// The failure that a member does not answer in time.
    pub(super) fn late(&self, index: usize) -> Failure {
        self.members[index].late(ANSWER)
    }

    /// Leaves a member that failed for the next one.
    pub(super) fn leave(&self, index: usize) {
        self.members[index].keep(None);
        let next = (index + 1) % self.members.len();
        // Somebody else may have left it already.
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn note(&self, index: usize, failure: Failure, reasons: &mut Vec<String>) -> Result<(), Failure> {
        match failure {
            Failure::Away(reason) => {
                debug!(reason, "an etcd member does not answer");
                reasons.push(reason);
                self.leave(index);
                Ok(())
            }
            refused @ Failure::Refused { code, .. } => {
                if code == UNAUTHENTICATED {
                    // The token may be from before a restart of etcd: the next call authenticates anew.
                    self.members[index].keep(None);
                }
                Err(refused)
            }
        }
    }
}

impl Member {
    fn new(endpoint: &str, security: &EtcdSecurity) -> Result<Self, StoreError> {
        let wrong = |reason: &str| StoreError::Setup {
            what: "etcd endpoint",
            value: endpoint.to_owned(),
            reason: format!("{reason}; right would be a URL such as http://127.0.0.1:2379"),
        };
        let secure = security.certfile.is_some() || security.keyfile.is_some() || security.cafile.is_some();
        let endpoint = match endpoint.split_once("://") {
            None => format!("{}://{endpoint}", if secure { "https" } else { "http" }),
            Some(("http" | "https", _)) => endpoint.to_owned(),
            Some((scheme, _)) => return Err(wrong(&format!("{scheme} is no way to reach etcd"))),
        };
        let authority =
            endpoint.split_once("://").map_or("", |(_, authority)| authority).trim_end_matches('/');
        if authority.is_empty()
            || authority.contains(['/', '@', '?', '#'])
            || authority.contains(char::is_whitespace)
        {
            return Err(wrong("it is no host with a port"));
        }
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if endpoint.starts_with("https://") {
            options = options.with_tls(tls::options(security)?);
        }
        let without_user = options.clone();
        if let Some(name) = security.username.as_ref().filter(|name| !name.is_empty()) {
            options = options.with_user(name, security.password.as_deref().unwrap_or_default());
        }
        Ok(Self { endpoint, options, without_user, client: Mutex::new(None) })
    }

    async fn client(&self) -> Result<Client, Failure> {
        if let Some(client) = self.kept() {
            return Ok(client);
        }
        let client = match self.connect(self.options.clone()).await {
            // As upstream's client: a user that etcd does not ask for is no mistake.
            Err(Failure::Refused { code: FAILED_PRECONDITION, reason }) if reason.contains("not enabled") => {
                self.connect(self.without_user.clone()).await?
            }
            other => other?,
        };
        self.keep(Some(client.clone()));
        Ok(client)
    }

    async fn connect(&self, options: ConnectOptions) -> Result<Client, Failure> {
        match timeout(CONNECT, Client::connect([&self.endpoint], Some(options))).await {
            Ok(result) => result.map_err(|error| self.failure(&error)),
            Err(_) => Err(self.late(CONNECT)),
        }
    }

    fn kept(&self) -> Option<Client> {
        self.client.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn keep(&self, client: Option<Client>) {
        *self.client.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = client;
    }

    fn late(&self, limit: Duration) -> Failure {
        Failure::Away(format!("{} did not answer within {} s", self.endpoint, limit.as_secs()))
    }

    fn failure(&self, error: &Error) -> Failure {
        let endpoint = &self.endpoint;
        match error {
            Error::GRpcStatus(status) => {
                let code = status.code() as i32;
                let said = chain(status.message(), status.source());
                match code {
                    INVALID_ARGUMENT | UNAUTHENTICATED if said.contains("auth") || said.contains("user") => {
                        Failure::Refused {
                            code,
                            reason: format!(
                                "{endpoint} says {said:?}: check --etcd-username and --etcd-password"
                            ),
                        }
                    }
                    PERMISSION_DENIED => Failure::Refused {
                        code,
                        reason: format!(
                            "{endpoint} says {said:?}: the etcd user needs to read <prefix>/config, and to read and write <prefix>/subnets/"
                        ),
                    },
                    code if FINAL.contains(&code) => {
                        Failure::Refused { code, reason: format!("{endpoint} says {said:?}") }
                    }
                    _ => Failure::Away(format!("{endpoint}: {said}{}", hint(endpoint, &said))),
                }
            }
            Error::InvalidArgs(_) | Error::InvalidUri(_) => Failure::Refused {
                code: INVALID_ARGUMENT,
                reason: format!("{endpoint}: {}", one_line(&error.to_string())),
            },
            Error::TransportError(error) => Failure::Away(format!("{endpoint}: {}", chain("", Some(error)))),
            other => Failure::Away(format!("{endpoint}: {}", one_line(&other.to_string()))),
        }
    }
}

/// What may be the reason for a broken connection where the message does not say it. Only for the operator's eyes.
fn hint(endpoint: &str, said: &str) -> &'static str {
    let secure = endpoint.starts_with("https://");
    match said {
        _ if said.contains("connect error") || said.contains("dns error") => "",
        _ if secure && said.contains("certificate") => " (check --etcd-cafile)",
        _ if secure && said.contains("handshake") => " (right would be http, if etcd speaks no TLS there)",
        _ if secure && said.contains("clos") => " (etcd may want a client certificate)",
        _ if !secure && said.contains("clos") => " (right would be https, if etcd speaks TLS there)",
        _ => "",
    }
}

/// A message and its causes, of which the last ones say what really happened.
fn chain(message: &str, mut cause: Option<&(dyn std::error::Error + 'static)>) -> String {
    let mut text = one_line(message);
    while let Some(error) = cause {
        let part = one_line(&error.to_string());
        // gRPC's word for all that can happen to a connection.
        if part != "transport error" && !text.contains(&part) {
            text = if text.is_empty() { part } else { format!("{text}: {part}") };
        }
        cause = error.source();
    }
    text
}
