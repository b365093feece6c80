//! Hetzner Cloud: its API as far as routes of a network go (<https://docs.hetzner.cloud/>).
//!
//! The nodes are its servers, all in one network whose router is the nodes' default gateway: rows of its routes become routes of the
//! kernel there. Changes take a moment, and what the API refuses is refused in the same shapes.

mod api;
mod cloud;
mod state;

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

pub use state::{Call, Fault, Row};

use super::gce::router::Router;
use super::server::Server;
use crate::{Lab, Node, Place};
use state::{Machine, State};

/// The network of all machines.
pub const NETWORK: u64 = 4711;
/// A token that may read and write. Made up.
pub const TOKEN: &str = "made-up-token-of-hetzner-for-tests-0123456789abcdef";
/// The endpoint's name.
pub const ENDPOINT: &str = "hetzner";
/// How often the router is looked after.
const STEP: Duration = Duration::from_millis(10);

/// A cloud, which ends when this is dropped.
#[derive(Debug)]
pub struct Hetzner {
    state: Arc<Mutex<State>>,
    api: Server,
    /// The file of `--http-endpoints`, and the one with the token beside it.
    files: (PathBuf, PathBuf),
    ends: Arc<AtomicBool>,
    clockwork: Option<std::thread::JoinHandle<()>>,
}

impl Hetzner {
    /// The cloud that a lab's nodes are machines of.
    pub fn start(lab: &Lab) -> Result<Self> {
        let machines = lab.nodes().iter().map(machine).collect();
        let state = Arc::new(Mutex::new(State::new(machines)));
        let namespace = lab.switch().namespace().clone();
        let shared = Arc::clone(&state);
        let gateway: IpAddr = Place::Near.gateway().into();
        let api = Server::start(&namespace, SocketAddr::new(gateway, 0), move |question| {
            api::answer(&shared, question)
        })?;
        let ends = Arc::new(AtomicBool::new(false));
        let (shared, end) = (Arc::clone(&state), Arc::clone(&ends));
        let clockwork = std::thread::spawn(move || {
            let mut router = Router::default();
            while !end.load(Ordering::Relaxed) {
                let wanted = lock(&shared).routes();
                router.apply(&namespace, &wanted);
                std::thread::sleep(STEP);
            }
        });
        let files = (lab.directory().join("endpoints.toml"), lab.directory().join("hetzner.token"));
        let cloud = Self { state, api, files, ends, clockwork: Some(clockwork) };
        cloud.write_token(TOKEN)?;
        cloud.write_endpoints(&cloud.endpoints())?;
        Ok(cloud)
    }

    /// Where the API is.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.api.address())
    }

    /// What an operator writes into the file of `--http-endpoints`.
    pub fn endpoints(&self) -> String {
        let allow = [
            "GET /servers",
            "GET /networks/*",
            "POST /networks/*/actions/add_route",
            "POST /networks/*/actions/delete_route",
            "GET /actions/*",
        ];
        format!(
            "[endpoint.{ENDPOINT}]\nurl = {:?}\nallow = {allow:?}\ncredentials = {{ bearer-file = {:?} }}\ninsecure = true\n",
            self.url(),
            self.files.1.display().to_string(),
        )
    }

    /// The file of `--http-endpoints`.
    pub fn endpoints_file(&self) -> &Path {
        &self.files.0
    }

    /// Writes that file.
    pub fn write_endpoints(&self, text: &str) -> Result<()> {
        write(&self.files.0, text)
    }

    /// Writes the file with the token.
    pub fn write_token(&self, token: &str) -> Result<()> {
        write(&self.files.1, &format!("{token}\n"))
    }

    /// The tokens that may read, and those that may write as well.
    pub fn set_tokens(&self, readers: &[&str], writers: &[&str]) {
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        let mut state = self.lock();
        (state.readers, state.writers) = (owned(readers), owned(writers));
    }

    /// The rows.
    pub fn rows(&self) -> Vec<Row> {
        self.lock().rows.clone()
    }

    /// An operator makes a row, in place of the one to the same destination.
    pub fn put_row(&self, row: Row) {
        let mut state = self.lock();
        state.rows.retain(|known| known.destination != row.destination);
        state.rows.push(row);
    }

    /// An operator deletes a row. Answers whether it was there.
    pub fn delete_row(&self, destination: &str) -> bool {
        let mut state = self.lock();
        let before = state.rows.len();
        state.rows.retain(|row| row.destination.to_string() != destination);
        state.rows.len() < before
    }

    /// The calls so far, answered or not.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// How many calls there were that change something.
    pub fn mutations(&self) -> usize {
        self.lock().calls.iter().filter(|call| call.method == "POST").count()
    }

    /// The next calls whose method and path begin so go wrong.
    pub fn fail(&self, call: &str, fault: &Fault, times: usize) {
        let faults = std::iter::repeat_n((call.to_owned(), fault.clone()), times);
        self.lock().faults.extend(faults);
    }

    /// No call goes wrong any more.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// How many routes there may be.
    pub fn limit(&self, routes: usize) {
        self.lock().limit = routes;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Hetzner {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(clockwork) = self.clockwork.take() {
            let _ = clockwork.join();
        }
    }
}

fn machine(node: &Node) -> Machine {
    Machine { name: node.name().to_owned(), address: node.address() }
}

fn write(file: &Path, text: &str) -> Result<()> {
    let write = || {
        // As whatever rotates secrets does it: nobody ever sees half of one.
        let new = file.with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(new, file)
    };
    write().with_context(|| file.display().to_string())
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
