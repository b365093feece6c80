//! Google Cloud: Compute Engine's API as far as routes go, the token endpoint, and the metadata service at its real address.
//!
//! The nodes are its machines, all in one network whose router is the nodes' default gateway: rows of its routes become routes of
//! the kernel there. Google's own libraries pass the same calls as flanneld (`tests/python/clouds/gce.py`).

mod api;
mod cloud;
mod errors;
mod faults;
mod filter;
mod metadata;
mod moment;
mod oauth;
mod operations;
pub(super) mod router;
mod state;
mod tokens;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

pub use faults::Fault;
pub use oauth::ACCOUNT;
pub use state::{Call, Notice};
pub use tokens::TOKEN_PREFIX;

use super::server::{Reply, Server};
use crate::{Lab, Node, Place};
use router::Router;
use state::{Instance, State};

/// The project's id.
pub const PROJECT: &str = "lab-project";
const PROJECT_NUMBER: u64 = 123_456_789_012;
/// The zone of all machines.
pub const ZONE: &str = "europe-west3-a";
/// The network of all machines.
pub const NETWORK: &str = "lab-network";
const NETWORK_ID: u64 = 5_000_000_000_000_000_001;
/// Where the metadata service is.
const METADATA: &str = "169.254.169.254";
/// How often operations are taken further.
const STEP: Duration = Duration::from_millis(10);

/// A row of the routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its destination.
    pub destination: String,
    /// The machine that is the next hop.
    pub instance: String,
}

/// A cloud, which ends when this is dropped.
#[derive(Debug)]
pub struct Gce {
    state: Arc<Mutex<State>>,
    api: Server,
    _metadata: Server,
    ends: Arc<AtomicBool>,
    clockwork: Option<std::thread::JoinHandle<()>>,
}

impl Gce {
    /// The cloud that a lab's nodes are machines of.
    pub fn start(lab: &Lab) -> Result<Self> {
        let machines = lab.nodes().iter().zip(1..).map(|(node, number)| machine(node, number));
        let state = Arc::new(Mutex::new(State::new(machines.collect::<Result<_>>()?)));
        let namespace = lab.switch().namespace().clone();
        namespace.ip(&format!("address add {METADATA}/32 dev lan"))?;

        let shared = Arc::clone(&state);
        let metadata = Server::start(&namespace, SocketAddr::new(METADATA.parse()?, 80), move |question| {
            metadata::answer(&mut lock(&shared), question)
        })?;
        let shared = Arc::clone(&state);
        let gateway: IpAddr = Place::Near.gateway().into();
        let api =
            Server::start(&namespace, SocketAddr::new(gateway, 0), move |question| match question.path() {
                "/token" => {
                    let host = question.header("host").unwrap_or_default();
                    oauth::answer(&mut lock(&shared).tokens, question, &format!("http://{host}/token"))
                }
                _ => api::serve(&shared, question),
            })?;

        let ends = Arc::new(AtomicBool::new(false));
        let (shared, end) = (Arc::clone(&state), Arc::clone(&ends));
        let clockwork = std::thread::spawn(move || {
            let mut router = Router::default();
            while !end.load(Ordering::Relaxed) {
                let wanted = {
                    let mut state = lock(&shared);
                    state.advance();
                    Router::wanted(&state)
                };
                router.apply(&namespace, &wanted);
                std::thread::sleep(STEP);
            }
        });
        Ok(Self { state, api, _metadata: metadata, ends, clockwork: Some(clockwork) })
    }

    /// One more node is a machine.
    fn add(&self, node: &Node) -> Result<()> {
        let number = self.lock().instances.len() as u64 + 1;
        let machine = machine(node, number)?;
        self.lock().instances.push(machine);
        Ok(())
    }

    /// Where the API is: `http://192.168.77.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.api.address())
    }

    /// What `--cloud-endpoint` has to be.
    pub fn endpoint(&self) -> String {
        format!("google:compute={}", self.url())
    }

    /// Writes the file of a service account's key, for `GOOGLE_APPLICATION_CREDENTIALS`.
    pub fn service_account_file(&self, directory: &Path) -> Result<PathBuf> {
        let file = directory.join("service-account.json");
        let content = oauth::service_account(&format!("{}/token", self.url()));
        std::fs::write(&file, content.to_string()).with_context(|| file.display().to_string())?;
        Ok(file)
    }

    /// Writes the file of a user's credentials.
    pub fn user_file(&self, directory: &Path) -> Result<PathBuf> {
        let file = directory.join("user.json");
        let content = oauth::user(&format!("{}/token", self.url()));
        std::fs::write(&file, content.to_string()).with_context(|| file.display().to_string())?;
        Ok(file)
    }

    /// The rows, by their names.
    pub fn rows(&self) -> Vec<Row> {
        let row = |(name, route): (&String, &Value)| {
            let text = |field: &str| route[field].as_str().unwrap_or_default();
            let instance = text("nextHopInstance").rsplit('/').next().unwrap_or_default().to_owned();
            Row { name: name.clone(), destination: text("destRange").to_owned(), instance }
        };
        self.lock().routes.iter().map(row).collect()
    }

    /// An operator makes a row, with what else is to be said of the route.
    pub fn put_row(&self, row: &Row, more: &Value) {
        let mut route = json!({
            "name": row.name,
            "destRange": row.destination,
            "network": state::network(),
            "nextHopInstance": format!("projects/{PROJECT}/zones/{ZONE}/instances/{}", row.instance),
            "priority": 1000,
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            route[field] = value.clone();
        }
        let mut state = self.lock();
        let complete = state.completed(&route);
        state.change(|routes| routes.insert(row.name.clone(), complete));
    }

    /// An operator deletes a row. Answers whether it was there.
    pub fn delete_row(&self, name: &str) -> bool {
        self.lock().change(|routes| routes.remove(name)).is_some()
    }

    /// The calls so far, answered or not.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// How many calls of a kind there were: `routes.insert`.
    pub fn count(&self, kind: &str) -> usize {
        self.lock().calls.iter().filter(|call| call.kind == kind).count()
    }

    /// How many calls there were that change something.
    pub fn mutations(&self) -> usize {
        self.count("routes.insert") + self.count("routes.delete")
    }

    /// Operations that were accepted so far.
    pub fn operations(&self) -> usize {
        self.lock().operations.len()
    }

    /// The next calls of a kind go wrong; `*`: calls of all kinds.
    pub fn fail(&self, kind: &str, fault: Fault, times: usize) {
        self.lock().faults.add(kind, fault, times);
    }

    /// No call goes wrong any more.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Nobody has a permission any more: `compute.routes.create`.
    pub fn deny(&self, permission: &str) {
        self.lock().denied.insert(permission.to_owned());
    }

    /// All have all permissions.
    pub fn allow_everything(&self) {
        self.lock().denied.clear();
    }

    /// How many routes there may be, and when one more is noticed.
    pub fn limit(&self, routes: usize, notice: Notice) {
        let mut state = self.lock();
        (state.limit, state.notice) = (routes, notice);
    }

    /// From now on operations stay unfinished, or go on.
    pub fn hold(&self, held: bool) {
        self.lock().pace.held = held;
    }

    /// From now on reads of routes show what was so long ago.
    pub fn lag(&self, time: Duration) {
        self.lock().lag = time;
    }

    /// How many routes a page of a list has at most.
    pub fn page(&self, routes: usize) {
        self.lock().page = routes;
    }

    /// Whether a machine was made with IP forwarding.
    pub fn set_ip_forwarding(&self, machine: &str, can: bool) {
        self.change(machine, |instance| instance.can_ip_forward = can);
    }

    /// Whether a machine has a service account.
    pub fn set_account(&self, machine: &str, has: bool) {
        self.change(machine, |instance| instance.has_account = has);
    }

    /// No access token is good any more.
    pub fn expire_tokens(&self) {
        self.lock().tokens.expire();
    }

    /// How long access tokens are good for from now on.
    pub fn token_lifetime(&self, time: Duration) {
        self.lock().tokens.lifetime = time;
    }

    fn change(&self, machine: &str, change: impl Fn(&mut Instance)) {
        self.lock().instances.iter_mut().filter(|instance| instance.name == machine).for_each(change);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Gce {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(clockwork) = self.clockwork.take() {
            let _ = clockwork.join();
        }
    }
}

/// The machine that a node is.
fn machine(node: &Node, number: u64) -> Result<Instance> {
    let links = node.namespace().ip_json("link show eth0")?;
    Ok(Instance {
        id: 4_000_000_000_000_000_000 + number,
        name: node.name().to_owned(),
        address: node.address().into(),
        mac: links[0]["address"].as_str().context("an Ethernet address")?.to_owned(),
        can_ip_forward: true,
        has_account: true,
    })
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// JSON as Google answers it.
fn answer(status: u16, body: &Value) -> Reply {
    Reply::new(status, "application/json; charset=UTF-8", format!("{body:#}\n"))
}
