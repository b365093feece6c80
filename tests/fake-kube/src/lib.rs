//! An API server of Kubernetes that is not there, for tests of those that ask one: nodes and pods, lists in pages and as streams, watches
//! with a window of history, patches, and all that goes wrong with them, on demand. What it does was seen of a real one.

mod certificates;
mod faults;
mod http;
mod merge;
mod nodes;
mod state;
mod watch;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub use certificates::{Authority, Identity};
pub use faults::{Fault, Kind};
pub use nodes::node;
pub use state::{Mode, Request};

use state::State;

/// A running API server. It goes away when this is dropped.
pub struct FakeKube {
    address: SocketAddr,
    is_secure: bool,
    shared: Arc<Shared>,
    _running: JoinSet<()>,
}

/// What the server's tasks share.
struct Shared {
    state: Mutex<State>,
    /// Wakes watches.
    changed: tokio::sync::watch::Sender<()>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and tells the watches.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let outcome = change(&mut self.state());
        self.changed.send_replace(());
        outcome
    }
}

impl FakeKube {
    /// On loopback, in the clear.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// On loopback, by TLS, with a certificate of the authority for `127.0.0.1`. Clients may show one of that authority, too.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start_with_tls(authority: &Authority) -> Self {
        Self::listen(Some(authority.acceptor(&["127.0.0.1"]))).await
    }

    /// The same, with a certificate for other names.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start_with_names(authority: &Authority, names: &[&str]) -> Self {
        Self::listen(Some(authority.acceptor(names))).await
    }

    async fn listen(tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let is_secure = tls.is_some();
        let (changed, _) = tokio::sync::watch::channel(());
        let shared = Arc::new(Shared { state: Mutex::new(State::default()), changed });
        let mut running = JoinSet::new();
        running.spawn(http::accept(listener, tls, Arc::clone(&shared)));
        Self { address, is_secure, shared, _running: running }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_secure { "https" } else { "http" }, self.address)
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes a node, with a UID of its own.
    pub fn create(&self, node: Value) {
        self.shared.change(|state| state.create(node));
    }

    /// Changes a node; nothing happens if there is none.
    pub fn update(&self, name: &str, change: impl FnOnce(&mut Value)) {
        self.shared.change(|state| state.update(name, change));
    }

    /// Deletes a node; nothing happens if there is none.
    pub fn delete(&self, name: &str) {
        self.shared.change(|state| state.delete(name));
    }

    /// Puts a pod on a node; `None`: it is on none yet.
    pub fn put_pod(&self, namespace: &str, name: &str, node: Option<&str>) {
        let pod = nodes::pod(namespace, name, node);
        self.shared.change(|state| state.pods.insert((namespace.to_owned(), name.to_owned()), pod));
    }

    /// All nodes as they are, by name.
    pub fn nodes(&self) -> Vec<Value> {
        self.shared.state().nodes.values().cloned().collect()
    }

    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.shared.state().version
    }

    /// Which version of Kubernetes it is.
    pub fn set_mode(&self, mode: Mode) {
        self.shared.change(|state| state.mode = mode);
    }

    /// Lets only those in who have this token.
    pub fn set_token(&self, token: &str) {
        self.shared.change(|state| state.token = Some(token.to_owned()));
    }

    /// No page of a list has more nodes, whatever is asked for.
    pub fn set_largest_page(&self, nodes: usize) {
        self.shared.change(|state| state.largest_page = nodes);
    }

    /// What is too old is refused with status 410, as by a proxy, instead of an event.
    pub fn refuse_old_versions_by_status(&self) {
        self.shared.change(|state| state.gone_by_status = true);
    }

    /// Does what is said here instead of answering.
    pub fn add_fault(&self, fault: Fault) {
        self.shared.change(|state| state.faults.push(fault));
    }

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        self.shared.change(|state| state.faults.clear());
    }

    /// Forgets what has changed: nobody can watch from an older version, or go on with an older list.
    pub fn compact(&self) {
        self.shared.change(State::compact);
    }

    /// Goes back to an older version with the nodes that it has, as when a backup is restored.
    pub fn go_back_to(&self, version: u64) {
        self.shared.change(|state| {
            state.version = version;
            state.compact();
        });
    }

    /// Does not know the metadata form.
    pub fn refuse_metadata_form(&self) {
        self.shared.change(|state| state.has_no_metadata_form = true);
    }

    /// Ends all watches, as after `timeoutSeconds`.
    pub fn end_watches(&self) {
        self.shared.change(|state| state.ends += 1);
    }

    /// Breaks all watches off in the middle.
    pub fn cut_watches(&self) {
        self.shared.change(|state| state.cuts += 1);
    }

    /// Sends a bookmark on all watches.
    pub fn send_bookmarks(&self) {
        self.shared.change(|state| state.bookmarks += 1);
    }

    /// Sends a line on all watches, as it is.
    pub fn send_line(&self, line: &str) {
        self.shared.change(|state| state.lines.push(line.to_owned()));
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// `METHOD URI` of all requests so far that have this text in it.
    pub fn requests_with(&self, text: &str) -> Vec<String> {
        let lines = self.requests().into_iter().map(|request| request.line());
        lines.filter(|line| line.contains(text)).collect()
    }

    /// How many watches are running.
    pub fn watches(&self) -> usize {
        self.shared.state().watches
    }
}
