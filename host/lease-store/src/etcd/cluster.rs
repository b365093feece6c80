//! The members of an etcd cluster: a connection to one of them, and to the next where that one fails. Every call has a
//! deadline.

use std::error::Error as _;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions, Error};
use flannel_base::text::{one_line, without_credentials};
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tracing::{debug, warn};

use super::tls::Tls;
use super::{EtcdSecurity, protocol};
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
pub(super) const PERMISSION_DENIED: i32 = 7;
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
    /// A URL of a scheme, a host and maybe a port, without a user.
    url: String,
    endpoint: Endpoint,
    options: ConnectOptions,
    /// The same without a user, for an etcd that has authentication turned off.
    without_user: ConnectOptions,
    /// With `https`.
    tls: Option<Tls>,
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
        let endpoints: Vec<&str> = self.members.iter().map(|member| member.url.as_str()).collect();
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
                    self.note(index, failure, &mut reasons).await?;
                    continue;
                }
            };
            match timeout(ANSWER, call(client)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => self.note(index, self.members[index].failure(&error), &mut reasons).await?,
                Err(_) => self.note(index, self.members[index].late(ANSWER), &mut reasons).await?,
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

    async fn note(&self, index: usize, failure: Failure, reasons: &mut Vec<String>) -> Result<(), Failure> {
        match failure {
            Failure::Away(mut reason) => {
                reason.push_str(self.members[index].advice(&reason).await);
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

/// How long an endpoint is waited for.
pub(super) fn with_times(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .keep_alive_while_idle(false)
}

impl Member {
    fn new(written: &str, security: &EtcdSecurity) -> Result<Self, StoreError> {
        let wrong = |reason: String| StoreError::Setup {
            what: "etcd endpoint",
            value: without_credentials(written),
            reason: format!("{reason}; right would be a URL such as http://127.0.0.1:2379"),
        };
        let secure = security.certfile.is_some() || security.keyfile.is_some() || security.cafile.is_some();
        let url = url(written, secure).map_err(wrong)?;
        let endpoint = Endpoint::from_shared(url.clone()).map_err(|_| wrong("it is no URL".to_owned()))?;
        let mut endpoint = with_times(endpoint);
        let tls = url.starts_with(HTTPS).then(|| Tls::read(security)).transpose()?;
        if let Some(tls) = &tls {
            endpoint = tls.of(endpoint).map_err(|error| wrong(chain("", Some(&error))))?;
        }
        let without_user = ConnectOptions::new().with_require_leader(true).with_auto_token_refresh(true);
        let mut options = without_user.clone();
        if let Some(name) = security.username.as_ref().filter(|name| !name.is_empty()) {
            options = options.with_user(name, security.password.as_deref().unwrap_or_default());
            if url.strip_prefix(HTTP).is_some_and(|authority| !is_loopback(authority)) {
                warn!(
                    endpoint = url,
                    "the etcd user's password goes over the network without TLS: whoever is on the way can read it; right would be https"
                );
            }
        }
        Ok(Self { url, endpoint, options, without_user, tls, client: Mutex::new(None) })
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
        let channel = match &self.tls {
            Some(tls) => tls.channel(&self.endpoint, &self.place()),
            None => self.endpoint.connect_lazy(),
        };
        let channel = Channel::Tonic(channel);
        match timeout(CONNECT, Client::from_channel(channel, Some(options))).await {
            Ok(result) => result.map_err(|error| self.failure(&error)),
            Err(_) => Err(self.late(CONNECT)),
        }
    }

    /// What the operator may have to change, where the message does not say it.
    async fn advice(&self, said: &str) -> &'static str {
        let place = self.place();
        match &self.tls {
            _ if said.contains("dns error") || said.contains("tcp connect error") => "",
            Some(_) if said.contains("certificate") => " (check --etcd-cafile)",
            Some(_) if protocol::is_plain(&place).await => " (right would be http: etcd speaks no TLS there)",
            Some(tls) if tls.refuses_us(&place).await => {
                " (etcd wants a client certificate that it knows: check --etcd-certfile and --etcd-keyfile)"
            }
            None if protocol::is_tls(&place).await => " (right would be https: etcd speaks TLS there)",
            _ => "",
        }
    }

    /// Host and port.
    fn place(&self) -> String {
        let (secure, authority) = match self.url.strip_prefix(HTTPS) {
            Some(authority) => (true, authority),
            None => (false, self.url.trim_start_matches(HTTP)),
        };
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        match (has_port, secure) {
            (true, _) => authority.to_owned(),
            (false, true) => format!("{authority}:443"),
            (false, false) => format!("{authority}:80"),
        }
    }

    fn kept(&self) -> Option<Client> {
        self.client.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn keep(&self, client: Option<Client>) {
        *self.client.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = client;
    }

    fn late(&self, limit: Duration) -> Failure {
        Failure::Away(format!("{} did not answer within {} s", self.url, limit.as_secs()))
    }

    fn failure(&self, error: &Error) -> Failure {
        let endpoint = &self.url;
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
                    _ => Failure::Away(format!("{endpoint}: {said}")),
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

const HTTP: &str = "http://";
const HTTPS: &str = "https://";

/// An endpoint as operators write it, made a URL of a scheme, a host and maybe a port. As upstream's client, this takes schemes in
/// capitals and hosts alone, and does not use a user in it.
fn url(written: &str, secure: bool) -> Result<String, String> {
    let (scheme, authority) = match written.split_once("://") {
        None => (if secure { HTTPS } else { HTTP }, written),
        Some((scheme, authority)) => match scheme.to_ascii_lowercase().as_str() {
            "http" => (HTTP, authority),
            "https" => (HTTPS, authority),
            _ => return Err(format!("{scheme} is no way to reach etcd")),
        },
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '?', '#']) || host.contains(char::is_whitespace) {
        return Err("it is no host with a port".to_owned());
    }
    if host.len() < authority.trim_end_matches('/').len() {
        warn!(
            endpoint = without_credentials(written),
            "the user in this URL is not used: --etcd-username and --etcd-password are for that"
        );
    }
    Ok(format!("{scheme}{host}"))
}

/// Whether a host, with a port or without, is this machine.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_to_this_machine_is_read_by_nobody_else() {
        for here in ["127.0.0.1:2379", "127.8.9.10", "localhost:2379", "LOCALHOST", "[::1]:2379", "[::1]"] {
            assert!(is_loopback(here), "{here}");
        }
        for elsewhere in ["192.168.77.1:2379", "localhost.example.com:2379", "[fd77::1]:2379", "::1", ""] {
            assert!(!is_loopback(elsewhere), "{elsewhere}");
        }
    }

    #[tokio::test]
    async fn a_member_has_the_port_of_its_scheme_unless_it_says_another() {
        for (endpoint, place) in [
            ("h:2379", "h:2379"),
            ("http://h", "h:80"),
            ("https://h", "h:443"),
            ("https://[fd77::1]", "[fd77::1]:443"),
            ("http://[fd77::1]:2379", "[fd77::1]:2379"),
        ] {
            let member = Member::new(endpoint, &EtcdSecurity::default()).expect(endpoint);
            assert_eq!(member.place(), place);
        }
    }
}
