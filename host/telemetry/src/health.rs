//! Health endpoints: `/healthz` and `/readyz` as upstream answers them, and `/metrics`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::connections::Connections;
use super::{Metrics, ObserveError, metrics};

const TEXT: &str = "text/plain; charset=utf-8";
/// So many connections at once; another one ends the oldest.
const CONNECTIONS: usize = 256;
/// How long a client may take for its request, and then for all.
const HEAD_TIME: Duration = Duration::from_secs(5);
const WHOLE_TIME: Duration = Duration::from_secs(15);
/// So many connections wait to be accepted; as the standard library has it.
const BACKLOG: i32 = 128;
/// Probes and Prometheus send far less.
const HEAD_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
/// A stop waits so long for answers on their way; as upstream.
const STOP: Duration = Duration::from_secs(3);
/// After a connection that could not be accepted, for want of file descriptors most often.
const PAUSE: Duration = Duration::from_millis(100);

/// What a node has to have done before it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The store has the node's lease, with the addresses that the node has.
    Lease,
    /// The firewall rules are in place, as far as they are wanted.
    Rules,
    /// The subnet file is written.
    SubnetFile,
    /// All peers of the first snapshot have gone through the policy into the kernel.
    Snapshot,
    /// The external interface has the address that the node is known by.
    Interface,
    /// Nobody else writes the node's lease.
    OwnLeaseAlone,
}

impl Step {
    const ALL: [Self; 6] =
        [Self::Interface, Self::Lease, Self::OwnLeaseAlone, Self::Rules, Self::SubnetFile, Self::Snapshot];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// What is missing while this is not done.
    pub fn missing(self) -> &'static str {
        match self {
            Self::Lease => "the node's lease is not in the store",
            Self::Rules => "the firewall rules are not in place",
            Self::SubnetFile => "the subnet file is not written",
            Self::Interface => "the external interface does not have the node's address",
            Self::OwnLeaseAlone => "another node writes this node's lease, too",
            Self::Snapshot => "the first snapshot of leases is not applied",
        }
    }
}

/// What a node can be ready without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// A family that the cluster has.
    Family,
    /// All other nodes.
    Peers,
}

/// Whether the node is ready: it is once all steps are done. A clone is the same one.
///
/// Upstream never takes readiness back, and neither does what happens to peers, store or plugin here. But a node that takes up another
/// subnet is not ready until that is done, and one whose address is gone is not before it has one again.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<State>);

#[derive(Debug, Default)]
struct State {
    done: AtomicU8,
    /// What goes wrong meanwhile.
    trouble: Mutex<Option<String>>,
    /// What is lacking, and not waited for.
    lacks: Mutex<BTreeMap<Lack, String>>,
}

impl Readiness {
    /// A step is done. Answers whether the node is ready by that and was not before.
    pub fn done(&self, step: Step) -> bool {
        let before = self.0.done.fetch_or(step.bit(), Ordering::AcqRel);
        !complete(before) && complete(before | step.bit())
    }

    /// A step has to be done again.
    pub fn undone(&self, step: Step) {
        self.0.done.fetch_and(!step.bit(), Ordering::AcqRel);
    }

    /// Whether all is done.
    pub fn is_ready(&self) -> bool {
        complete(self.0.done.load(Ordering::Acquire))
    }

    /// What goes wrong, or nothing any more: said to whoever asks why the node is not ready.
    pub fn trouble(&self, trouble: Option<String>) {
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// What the node is ready without, and why; none: it has that.
    pub fn lacks(&self, lack: Lack, why: Option<String>) {
        let mut lacks = self.0.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => drop(lacks.insert(lack, why)),
            None => drop(lacks.remove(&lack)),
        }
    }

    /// What the node is ready without, in words.
    pub fn lacking(&self) -> Vec<String> {
        self.0.lacks.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Why the node is not ready, in a line.
    fn reasons(&self) -> String {
        let missing = self.missing().into_iter().map(|step| step.missing().to_owned());
        let trouble = self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        missing.chain(trouble).chain(self.lacking()).collect::<Vec<_>>().join("; ")
    }

    /// What is not done.
    pub fn missing(&self) -> Vec<Step> {
        let done = self.0.done.load(Ordering::Acquire);
        Step::ALL.into_iter().filter(|step| done & step.bit() == 0).collect()
    }
}

fn complete(done: u8) -> bool {
    Step::ALL.into_iter().all(|step| done & step.bit() != 0)
}

/// Takes the port, before anything else is done, so that one that is taken ends the start. Needs a tokio runtime.
pub fn bind(ip: IpAddr, port: u16) -> Result<TcpListener, ObserveError> {
    let address = SocketAddr::new(ip, port);
    let usable = |listener: std::net::TcpListener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    // Go's servers, upstream among them, take the address that stands for all of IPv4 for all of both families: kubelet asks at the node's
    // address, which is one of IPv6 in clusters without IPv4.
    let is_all = ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    // A kernel without IPv6, or a port of which another program has a half: that is said of the address that was asked for.
    let both = is_all.then(|| both_families(port)).and_then(Result::ok);
    let listened = both.map_or_else(|| std::net::TcpListener::bind(address), Ok);
    listened.and_then(usable).map_err(|error: io::Error| ObserveError::Listen {
        address,
        reason: match error.kind() {
            io::ErrorKind::AddrInUse => "another program has this port".to_owned(),
            io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
            _ => error.to_string(),
        },
    })
}

/// A listener for all addresses of both families, whatever the kernel's usual is.
fn both_families(port: u16) -> io::Result<std::net::TcpListener> {
    let socket = socket_with(AddressFamily::INET6, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseaddr(&socket, true)?;
    set_ipv6_v6only(&socket, false)?;
    rustix::net::bind(&socket, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Answers from now on, until it is stopped or dropped.
pub fn serve(listener: TcpListener, readiness: Readiness, metrics: Metrics) -> HealthServer {
    let (stop, stopping) = watch::channel(());
    let task = tokio::spawn(accept(listener, Told { readiness, metrics }, stopping));
    HealthServer { stop: Some(stop), task }
}

/// The health endpoints in operation.
pub struct HealthServer {
    /// Its end is the word to stop.
    stop: Option<watch::Sender<()>>,
    task: JoinHandle<()>,
}

impl HealthServer {
    /// Takes no more connections, and finishes what is under way, for three seconds at most.
    pub async fn stop(mut self) {
        self.stop = None;
        // Connections end by then; this is for the case that they do not.
        let _ = timeout(STOP, &mut self.task).await;
    }
}

impl Drop for HealthServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Told {
    readiness: Readiness,
    metrics: Metrics,
}

async fn accept(listener: TcpListener, told: Told, mut stopping: watch::Receiver<()>) {
    let mut connections = Connections::new(CONNECTIONS);
    let mut said = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.changed() => break,
        };
        match accepted {
            Ok((stream, _)) => connections.serve(connection(stream, told.clone(), stopping.clone())),
            Err(error) => {
                if !said {
                    warn!(%error, "health endpoints: a connection cannot be accepted; going on");
                }
                said = true;
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.finish(STOP).await;
}

/// One request: connections that are kept open would have to be watched, and probes do not need them.
async fn connection(stream: TcpStream, told: Told, mut stopping: watch::Receiver<()>) {
    let service = service_fn(move |request| {
        let response = answer(&request, &told);
        async { Ok::<_, Infallible>(response) }
    });
    let mut serving = pin!(
        http1::Builder::new()
            .keep_alive(false)
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_BYTES)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(stream), service)
    );
    let whole = async {
        tokio::select! {
            served = serving.as_mut() => return served,
            _ = stopping.changed() => serving.as_mut().graceful_shutdown(),
        }
        serving.await
    };
    if let Ok(Err(error)) = timeout(WHOLE_TIME, whole).await {
        debug!(%error, "health endpoints: a client went wrong");
    }
}

/// Any method, as upstream.
fn answer<B: Body>(request: &Request<B>, told: &Told) -> Response<Full<Bytes>> {
    let (status, kind, body) = match request.uri().path() {
        "/healthz" => (StatusCode::OK, TEXT, "flanneld is running".into()),
        "/readyz" if told.readiness.is_ready() => {
            let lacking = told.readiness.lacking().join("; ");
            let but = if lacking.is_empty() { "" } else { ", but: " };
            (StatusCode::OK, TEXT, format!("flanneld is ready{but}{lacking}").into())
        }
        "/readyz" => {
            let body = format!("flanneld is not ready yet: {}", told.readiness.reasons());
            (StatusCode::SERVICE_UNAVAILABLE, TEXT, body.into())
        }
        "/metrics" => {
            told.metrics.ready(told.readiness.is_ready());
            (StatusCode::OK, metrics::CONTENT_TYPE, told.metrics.encode().into())
        }
        _ => (StatusCode::NOT_FOUND, TEXT, "404 page not found\n".into()),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Server {
        address: SocketAddr,
        readiness: Readiness,
        running: HealthServer,
    }

    fn all_done(readiness: &Readiness) {
        for step in Step::ALL {
            readiness.done(step);
        }
    }

    fn start() -> Server {
        let listener = bind(Ipv4Addr::LOCALHOST.into(), 0).expect("a free port");
        let address = listener.local_addr().expect("address");
        let readiness = Readiness::default();
        Server { address, readiness: readiness.clone(), running: serve(listener, readiness, Metrics::new()) }
    }

    impl Server {
        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.expect("connection")
        }

        /// Sends bytes, and answers what comes until the server closes.
        async fn raw(&self, request: &[u8]) -> String {
            let mut stream = self.connect().await;
            stream.write_all(request).await.expect("request");
            received(&mut stream).await
        }

        /// Status line, content type and body.
        async fn ask(&self, method: &str, path: &str) -> (String, String, String) {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: node\r\n\r\n");
            let response = self.raw(request.as_bytes()).await;
            let (head, body) = response.split_once("\r\n\r\n").expect("a whole head");
            let mut lines = head.lines();
            let status = lines.next().expect("status").to_owned();
            let header = |name: &str| {
                let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                line.unwrap_or_else(|| panic!("{name} in {head}")).to_owned()
            };
            if method != "HEAD" {
                assert_eq!(header("content-length"), body.len().to_string());
            }
            (status, header("content-type"), body.to_owned())
        }
    }

    async fn received(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("response");
        String::from_utf8(bytes).expect("text")
    }

    /// The server ends the connection, one way or another.
    async fn ended(stream: &mut TcpStream) {
        let mut bytes = Vec::new();
        let end = timeout(Duration::from_mins(1), stream.read_to_end(&mut bytes)).await.expect("an end");
        assert!(bytes.is_empty(), "{end:?} {}", bytes.escape_ascii());
    }

    fn text(status: &str, body: &str) -> (String, String, String) {
        (format!("HTTP/1.1 {status}"), TEXT.to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn the_address_that_stands_for_all_of_ipv4_stands_for_ipv6_too() {
        let listener = bind(Ipv4Addr::UNSPECIFIED.into(), 0).expect("a free port");
        let port = listener.local_addr().expect("address").port();
        let _serving = serve(listener, Readiness::default(), Metrics::new());
        for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let mut stream = TcpStream::connect((address, port)).await.expect("connected");
            stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.expect("asked");
            assert!(received(&mut stream).await.contains("flanneld is running"), "{address}");
        }
        assert!(bind(Ipv4Addr::UNSPECIFIED.into(), port).is_err(), "another program has it");
    }

    #[tokio::test]
    async fn who_asks_is_told_what_is_missing_and_what_goes_wrong() {
        let server = start();
        all_done(&server.readiness);
        server.readiness.undone(Step::Lease);
        server.readiness.trouble(Some("lease store: it is away".to_owned()));
        let body = server.ask("GET", "/readyz").await.2;
        assert_eq!(
            body,
            "flanneld is not ready yet: the node's lease is not in the store; lease store: it is away"
        );
        server.readiness.trouble(None);
        assert!(!server.ask("GET", "/readyz").await.2.contains("away"));
    }

    #[tokio::test]
    async fn who_is_ready_without_something_says_what_and_why() {
        let server = start();
        all_done(&server.readiness);
        server.readiness.lacks(Lack::Peers, Some("the others are not known yet".to_owned()));
        server.readiness.lacks(Lack::Family, Some("this node has no IPv6 podCIDR".to_owned()));
        let said = "flanneld is ready, but: this node has no IPv6 podCIDR; the others are not known yet";
        assert_eq!(server.ask("GET", "/readyz").await, text("200 OK", said));
        server.readiness.lacks(Lack::Peers, None);
        server.readiness.undone(Step::Lease);
        let said =
            "flanneld is not ready yet: the node's lease is not in the store; this node has no IPv6 podCIDR";
        assert_eq!(server.ask("GET", "/readyz").await, text("503 Service Unavailable", said));
        server.readiness.lacks(Lack::Family, None);
        server.readiness.done(Step::Lease);
        assert_eq!(server.ask("GET", "/readyz").await, text("200 OK", "flanneld is ready"));
    }

    #[tokio::test]
    async fn upstreams_answers() {
        let server = start();
        assert_eq!(server.ask("GET", "/healthz").await, text("200 OK", "flanneld is running"));
        let not_yet = async || {
            let (status, _, body) = server.ask("GET", "/readyz").await;
            status.contains("503") && body.starts_with("flanneld is not ready yet: ")
        };
        assert!(not_yet().await);
        for step in [Step::Interface, Step::Lease, Step::OwnLeaseAlone, Step::Rules, Step::SubnetFile] {
            assert!(!server.readiness.done(step));
            assert!(not_yet().await);
        }
        assert!(server.readiness.done(Step::Snapshot), "now it is ready");
        assert!(!server.readiness.done(Step::Snapshot), "it was before");
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "NONSENSE"] {
            assert_eq!(server.ask(method, "/readyz").await, text("200 OK", "flanneld is ready"), "{method}");
            assert_eq!(server.ask(method, "/healthz?x=1").await, text("200 OK", "flanneld is running"));
        }
        assert_eq!(server.ask("HEAD", "/healthz").await, text("200 OK", ""));
        for path in ["/", "/healthz/", "/debug/pprof/"] {
            assert_eq!(
                server.ask("GET", path).await,
                text("404 Not Found", "404 page not found\n"),
                "{path}"
            );
        }
    }

    #[tokio::test]
    async fn metrics_are_openmetrics() {
        let server = start();
        all_done(&server.readiness);
        let (status, kind, body) = server.ask("GET", "/metrics").await;
        assert_eq!(
            (status.as_str(), kind.as_str()),
            ("HTTP/1.1 200 OK", "application/openmetrics-text; version=1.0.0; charset=utf-8")
        );
        assert!(body.contains("\nflanneld_ready 1\n") && body.ends_with("# EOF\n"), "{body}");
    }

    #[tokio::test]
    async fn an_older_client_and_a_body_are_no_problem() {
        let server = start();
        let old = server.raw(b"GET /healthz HTTP/1.0\r\n\r\n").await;
        assert!(
            old.starts_with("HTTP/1.0 200 OK\r\n") && old.ends_with("\r\n\r\nflanneld is running"),
            "{old}"
        );
        let posted = b"POST /healthz HTTP/1.1\r\nHost: node\r\nContent-Length: 5\r\n\r\nhello";
        assert!(server.raw(posted).await.ends_with("\r\n\r\nflanneld is running"));
    }

    #[tokio::test]
    async fn garbage_is_refused() {
        let server = start();
        for garbage in [&b"\0\0\0\0\r\n\r\n"[..], b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03"]
        {
            let answer = server.raw(garbage).await;
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        }
        let huge = format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES));
        let mut stream = server.connect().await;
        // The server may close before it has read all of it.
        let _ = stream.write_all(huge.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "), "{}", answer.escape_ascii());
        assert_eq!(server.ask("GET", "/healthz").await.2, "flanneld is running");
    }

    #[tokio::test]
    async fn clients_that_hang_keep_no_probe_waiting() {
        let server = start();
        let mut hanging = Vec::new();
        for _ in 0..CONNECTIONS + 20 {
            let mut stream = server.connect().await;
            stream.write_all(b"GET /healthz HT").await.expect("half a request");
            hanging.push(stream);
        }
        assert_eq!(server.ask("GET", "/healthz").await.2, "flanneld is running");
        // The oldest was cut off.
        ended(&mut hanging[0]).await;
    }

    #[tokio::test]
    async fn a_slow_client_is_cut_off() {
        let server = start();
        let mut stream = server.connect().await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: no").await.expect("half a request");
        ended(&mut stream).await;
    }

    #[tokio::test]
    async fn a_stop_closes_the_port_and_idle_connections() {
        let server = start();
        let mut idle = server.connect().await;
        let address = server.address;
        assert_eq!(server.ask("GET", "/healthz").await.2, "flanneld is running");
        server.running.stop().await;
        ended(&mut idle).await;
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_ever() {
        let server = start();
        let mut stream = server.connect().await;
        stream.write_all(b"GET /healthz HT").await.expect("half a request");
        server.running.stop().await;
        ended(&mut stream).await;
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_one_clear_line() {
        let server = start();
        let error = bind(server.address.ip(), server.address.port()).expect_err("taken").to_string();
        let address = server.address;
        assert_eq!(
            error,
            format!(
                "health endpoints: cannot listen on {address} (--healthz-ip, --healthz-port): another program has this port"
            )
        );
        let error = bind("192.0.2.1".parse().expect("ip"), 0).expect_err("not ours").to_string();
        assert!(error.ends_with("this machine has no such address"), "{error}");
    }

    #[test]
    fn a_step_can_be_undone() {
        let readiness = Readiness::default();
        assert_eq!(readiness.missing(), Step::ALL);
        all_done(&readiness);
        readiness.undone(Step::SubnetFile);
        assert!(!readiness.is_ready());
        assert_eq!(readiness.missing(), [Step::SubnetFile]);
        assert!(readiness.done(Step::SubnetFile), "ready again");
    }
}
