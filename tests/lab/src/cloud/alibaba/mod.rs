//! Alibaba Cloud, as far as a flannel cluster needs it: the VPC API of version 2016-04-28 and the instances' metadata service.
//!
//! It holds state, carries changes out a while after it has said yes, and refuses what the real one refuses, in the same shapes. That
//! the shapes are right is proved by the vendor's own Python libraries, old and new (`tests/alibaba.rs`). Rows of the route table that
//! the nodes' vSwitch uses are real routes of the lab's router.
//!
//! | module | job |
//! |---|---|
//! | `account` | access keys, sessions of the RAM role, what they may do |
//! | `signature` | signatures of both schemes, checked |
//! | `vpc` | route tables and their entries, over time |
//! | `actions` | the API's actions: parameters in, JSON out |
//! | `metadata` | what an instance can ask about itself |
//! | `shared` | what is shared by servers, lab and the passing of time |
//! | `fault` | what goes wrong on request, and errors as the API words them |

mod account;
mod actions;
mod cloud;
mod fault;
mod metadata;
mod shared;
pub(in crate::cloud) mod signature;
mod vpc;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::IpNet;

use super::server::Server;
use crate::Namespace;
pub use fault::{Error, Fault};
use shared::{Shared, pass_time};
use vpc::Vpc;
pub use vpc::{Entry, Status};

/// The region of the lab.
pub const REGION: &str = "cn-hangzhou";
/// The RAM role of all nodes.
pub const ROLE: &str = "FlannelNode";
/// Key id and secret of a RAM user that may do everything. Made up.
pub const ACCESS_KEY: (&str, &str) = ("LTAI-made-up-for-tests", "secret-made-up-for-tests");
/// Where every instance finds its metadata.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);

/// A call of the API.
#[derive(Clone, Debug)]
pub struct Call {
    /// Whose address it came from.
    pub from: IpAddr,
    /// `DescribeRouteEntryList`
    pub action: String,
    /// All parameters but those of signatures.
    pub parameters: BTreeMap<String, String>,
    /// `OK`, or the error's code.
    pub outcome: String,
}

/// The cloud. Its servers end when this is dropped; the routes go with the namespace.
#[derive(Debug)]
pub struct Alibaba {
    shared: Arc<Shared>,
    api: Server,
    _metadata: Server,
}

/// The instance that has an address, and the other way round: `i-lab192168077011`.
pub fn instance_at(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("i-lab{}", v4.octets().map(|octet| format!("{octet:03}")).concat()),
        IpAddr::V6(v6) => format!("i-lab-{}", v6.segments().map(|part| format!("{part:x}")).join("-")),
    }
}

/// The address of an instance; none: there is no such instance.
pub fn address_of(instance: &str) -> Option<Ipv4Addr> {
    let digits = instance.strip_prefix("i-lab").filter(|digits| digits.len() == 12)?;
    let octet = |at: usize| digits.get(at * 3..at * 3 + 3)?.parse::<u8>().ok();
    Some(Ipv4Addr::new(octet(0)?, octet(1)?, octet(2)?, octet(3)?))
}

impl Alibaba {
    /// Serves the API at a free port of the router's address, and metadata at its real address, which the device of the router that
    /// leads to the nodes is given.
    pub fn start(router: &Namespace, address: IpAddr, device: &str) -> Result<Self> {
        router.ip(&format!("address replace {METADATA}/32 dev {device}"))?;
        let shared = Arc::new(Shared::new(router.clone()));
        let of_api = Arc::clone(&shared);
        let api =
            Server::start(router, SocketAddr::new(address, 0), move |question| of_api.answer(question))?;
        let of_metadata = Arc::clone(&shared);
        let metadata = Server::start(router, SocketAddr::new(METADATA.into(), 80), move |question| {
            metadata::answer(&mut of_metadata.lock(), question)
        })?;
        let of_time = Arc::downgrade(&shared);
        std::thread::Builder::new().spawn(move || pass_time(&of_time)).context("a thread")?;
        Ok(Self { shared, api, _metadata: metadata })
    }

    /// `http://ADDRESS:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.api.address())
    }

    /// Whether metadata is given only to those who have fetched a token before.
    pub fn set_hardened(&self, hardened: bool) {
        self.shared.lock().hardened = hardened;
    }

    /// How long an entry is `Pending`, and how long `Deleting`. At first 100 ms.
    pub fn set_settling(&self, time: Duration) {
        self.shared.lock().vpc.settling = time;
    }

    /// How old the state is that reads answer with. At first they are up to date.
    pub fn set_staleness(&self, time: Duration) {
        self.shared.lock().vpc.staleness = time;
    }

    /// How many custom entries a route table may have. At first 200.
    pub fn set_quota(&self, entries: usize) {
        self.shared.lock().vpc.quota = entries;
    }

    /// What the next calls of an action meet, one each.
    pub fn fail(&self, action: &str, faults: impl IntoIterator<Item = Fault>) {
        self.shared.lock().faults.entry(action.to_owned()).or_default().extend(faults);
    }

    /// Takes the permission for an action away, or gives it back.
    pub fn permit(&self, action: &str, allowed: bool) {
        self.shared.lock().account.permit(action, allowed);
    }

    /// Ends all sessions of the RAM role, as if their time had come.
    pub fn expire_sessions(&self) {
        self.shared.lock().account.expire_sessions();
    }

    /// How long sessions that begin from now on last. At first six hours.
    pub fn set_session_time(&self, time: Duration) {
        self.shared.lock().account.session_time = time;
    }

    /// How many sessions of the RAM role there have been.
    pub fn sessions(&self) -> usize {
        self.shared.lock().account.sessions()
    }

    /// All secrets that it knows: nobody should ever see one in a log.
    pub fn secrets(&self) -> Vec<String> {
        self.shared.lock().account.secrets()
    }

    /// Gives the nodes' vSwitch a route table of its own, in place of the system table. Answers its identifier.
    pub fn use_custom_table(&self) -> Result<String> {
        self.shared.change(Vpc::use_custom_table)
    }

    /// The identifier of the route table that the nodes' vSwitch uses.
    pub fn table(&self) -> String {
        self.shared.lock().vpc.table_in_use().to_owned()
    }

    /// Custom entries of the table in use, by destination.
    pub fn entries(&self) -> Vec<Entry> {
        let inner = self.shared.lock();
        let table = inner.vpc.table_in_use().to_owned();
        inner.vpc.entries().filter(|entry| entry.table == table && entry.is_custom()).cloned().collect()
    }

    /// Destinations of custom entries that are in force, and their instances.
    pub fn rows(&self) -> BTreeMap<IpNet, String> {
        let available = self.entries().into_iter().filter(|entry| entry.status == Status::Available);
        available.map(|entry| (entry.destination, entry.hop)).collect()
    }

    /// Adds an entry to the table in use at once, as somebody at the console.
    pub fn add(&self, destination: IpNet, instance: &str) -> Result<()> {
        self.shared.change(|vpc| vpc.add(destination, "Instance", instance))
    }

    /// Adds an entry that leads somewhere else than to an instance.
    pub fn add_to(&self, destination: IpNet, kind: &str, hop: &str) -> Result<()> {
        self.shared.change(|vpc| vpc.add(destination, kind, hop))
    }

    /// Takes an entry from the table in use at once, as somebody at the console. Answers whether there was one.
    pub fn delete(&self, destination: IpNet) -> Result<bool> {
        self.shared.change(|vpc| vpc.take(destination))
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    /// How often an action was called, however it went.
    pub fn count(&self, action: &str) -> usize {
        self.shared.lock().calls.iter().filter(|call| call.action == action).count()
    }

    /// How many calls were there that change something, however they went.
    pub fn mutations(&self) -> usize {
        self.shared.lock().calls.iter().filter(|call| !call.action.starts_with("Describe")).count()
    }
}
