//! Tencent Cloud, as far as a flannel cluster needs it: routes of the VPC API of version 2017-03-12
//! (<https://www.tencentcloud.com/document/product/215/16724>), and the instances' metadata service.
//!
//! It checks what the real one checks: signatures, their time, names and types of parameters, quotas and conflicts. Rows of the route table
//! that the nodes' subnet uses are real routes of the lab's router.
//!
//! | module | job |
//! |---|---|
//! | `api` | the API's actions: JSON in, JSON out |
//! | `signature` | signatures, checked |
//! | `state` | route tables, keys, and what goes wrong on request |
//! | `metadata` | what an instance can ask about itself |

mod api;
mod cloud;
mod metadata;
mod signature;
mod state;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use ipnet::Ipv4Net;

use super::server::Server;
use crate::{Lab, Place};
use state::State;
pub use state::{Call, Fault, Row};

/// The region of the lab.
pub const REGION: &str = "ap-guangzhou";
/// SecretId and SecretKey of a user that may do everything. Made up.
pub const ACCESS_KEY: (&str, &str) = ("AKIDmadeupfortests", "secret-made-up-for-tests");
/// The address that `metadata.tencentyun.com` has inside the cloud.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 23);
/// The kind of next hop that an instance is.
pub const INSTANCE: &str = "NORMAL_CVM";

/// A cloud. Its servers end when this is dropped; the routes go with the namespace.
#[derive(Debug)]
pub struct Tencent {
    state: Arc<Mutex<State>>,
    api: Server,
    _metadata: Server,
}

impl Tencent {
    /// The cloud that a lab's nodes are machines of. Metadata is at its real address, which the device of the router that leads to the
    /// nodes is given.
    pub fn start(lab: &Lab) -> Result<Self> {
        let namespace = lab.switch().namespace().clone();
        namespace.ip(&format!("address replace {METADATA}/32 dev {}", crate::bridge::BRIDGE))?;
        let state = Arc::new(Mutex::new(State::new(namespace.clone())));
        let shared = Arc::clone(&state);
        let gateway = SocketAddr::new(Place::Near.gateway().into(), 0);
        let api = Server::start(&namespace, gateway, move |question| api::answer(&shared, question))?;
        let shared = Arc::clone(&state);
        let metadata = Server::start(&namespace, SocketAddr::new(METADATA.into(), 80), move |question| {
            metadata::answer(&mut lock(&shared), question)
        })?;
        Ok(Self { state, api, _metadata: metadata })
    }

    /// `http://ADDRESS:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.api.address())
    }

    /// The rows of the table in use that somebody has made.
    pub fn rows(&self) -> Vec<Row> {
        let state = self.lock();
        state
            .rows
            .iter()
            .filter(|row| row.table == state.table_in_use() && row.is_custom())
            .cloned()
            .collect()
    }

    /// The identifier of the route table that the nodes' subnet uses.
    pub fn table(&self) -> String {
        self.lock().table_in_use().to_owned()
    }

    /// Gives the nodes' subnet a route table of its own, in place of the VPC's main one.
    pub fn use_custom_table(&self) {
        let mut state = self.lock();
        state.has_custom_table = true;
        state.route();
    }

    /// Adds a row to the table in use, as somebody at the console.
    pub fn add(&self, destination: Ipv4Net, kind: &str, hop: &str) {
        let mut state = self.lock();
        let table = state.table_in_use();
        state.add(table, destination, kind, hop);
        state.route();
    }

    /// Takes a row from the table in use, as somebody at the console. Answers whether there was one.
    pub fn delete(&self, destination: Ipv4Net) -> bool {
        let mut state = self.lock();
        let (table, before) = (state.table_in_use(), state.rows.len());
        state.rows.retain(|row| row.table != table || row.destination != destination);
        state.route();
        state.rows.len() < before
    }

    /// How many routes a table may have. At first 50.
    pub fn set_quota(&self, routes: usize) {
        self.lock().quota = routes;
    }

    /// What the next calls of an action meet, one each.
    pub fn fail(&self, action: &str, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.entry(action.to_owned()).or_default().extend(faults);
    }

    /// Takes the permission for an action away, or gives it back.
    pub fn permit(&self, action: &str, allowed: bool) {
        let mut state = self.lock();
        if allowed {
            state.denied.remove(action);
        } else {
            state.denied.insert(action.to_owned());
        }
    }

    /// Whether the instances have a CAM role.
    pub fn set_role(&self, has: bool) {
        self.lock().has_role = has;
    }

    /// Ends the session of the CAM role, as if its time had come.
    pub fn expire_session(&self) {
        self.lock().session += 1;
    }

    /// How often somebody has asked for the role's keys.
    pub fn sessions(&self) -> usize {
        self.lock().sessions_given
    }

    /// All secrets that it knows: nobody should ever see one in a log.
    pub fn secrets(&self) -> Vec<String> {
        self.lock().secrets()
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// How many calls there were that change something, however they went.
    pub fn mutations(&self) -> usize {
        self.lock().calls.iter().filter(|call| !call.action.starts_with("Describe")).count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
