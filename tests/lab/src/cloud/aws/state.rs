//! What the cloud remembers besides what moto does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::console::Site;
use super::credentials::Credentials;
use super::fault::Faults;
use super::metadata::Sessions;
use super::router::Router;
use super::tables::{self, Tables};

/// An instance, which is a node.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// The node's name.
    pub(super) name: String,
    /// `i-…`
    pub(super) instance: String,
    /// `eni-…`
    pub(super) interface: String,
    pub(super) mac: String,
    pub(super) address: Ipv4Addr,
    pub(super) address_v6: Option<Ipv6Addr>,
    /// Whether it has the role.
    pub(super) has_role: bool,
    pub(super) running: bool,
    /// Whether its interface checks that packets are from or for itself, and so forwards none.
    pub(super) checks: bool,
}

/// A call of the API.
#[derive(Clone, Debug)]
pub struct Call {
    /// Whose address it came from.
    pub from: IpAddr,
    /// `DescribeRouteTables`
    pub action: String,
    /// All parameters but the action and the version.
    pub parameters: BTreeMap<String, String>,
    /// `OK`, the error's code, or nothing where nobody heard it.
    pub outcome: String,
}

impl Call {
    /// Whether it changes something.
    pub fn is_mutation(&self) -> bool {
        !self.action.starts_with("Describe")
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) site: Site,
    pub(super) machines: Vec<Machine>,
    pub(super) credentials: Credentials,
    pub(super) sessions: Sessions,
    pub(super) faults: Faults,
    /// Actions that nobody may do.
    pub(super) denied: BTreeSet<String>,
    /// How many rows of a family a table may have besides the cloud's own.
    pub(super) limit: usize,
    /// How old the rows are that reads answer with.
    pub(super) lag: Duration,
    pub(super) calls: Vec<Call>,
    /// The route table that the nodes' subnet uses.
    pub(super) table: String,
    /// The tables as they were since then; the last is as they are.
    history: Vec<(Instant, Tables)>,
    pub(super) router: Router,
    requests: u64,
}

impl State {
    pub(super) fn new(site: Site) -> Self {
        Self {
            credentials: Credentials::new(&site.account),
            table: site.table.clone(),
            site,
            machines: Vec::new(),
            sessions: Sessions::default(),
            faults: Faults::default(),
            denied: BTreeSet::new(),
            limit: usize::MAX,
            lag: Duration::ZERO,
            calls: Vec::new(),
            history: Vec::new(),
            router: Router::default(),
            requests: 0,
        }
    }

    /// The tables as they are.
    pub(super) fn tables(&self) -> Tables {
        self.history.last().map(|(_, tables)| tables.clone()).unwrap_or_default()
    }

    /// The tables as reads see them.
    pub(super) fn seen(&self) -> Option<&Tables> {
        let now = Instant::now();
        let old_enough = self.history.iter().rfind(|(since, _)| now.duration_since(*since) >= self.lag);
        old_enough.or_else(|| self.history.first()).map(|(_, tables)| tables)
    }

    /// The tables have been read.
    pub(super) fn remember(&mut self, tables: Tables) {
        if self.history.last().is_none_or(|(_, last)| *last != tables) {
            self.history.push((Instant::now(), tables));
        }
    }

    /// How many rows of a destination's family a table has, besides the cloud's own; and whether there is one for it.
    pub(super) fn rows_like(&self, table: &str, wanted: &str) -> (usize, bool) {
        let tables = self.tables();
        let routes = tables.get(table).into_iter().flatten();
        let routes = routes.filter(|route| route.get("gatewayId").is_none_or(|gateway| gateway != "local"));
        let family = |destination: &str| destination.contains(':');
        let alike = routes.map(tables::destination).filter(|known| family(known) == family(wanted));
        alike.fold((0, false), |(count, has), known| (count + 1, has || known == wanted))
    }

    /// Another request's identifier.
    pub(super) fn request(&mut self) -> String {
        self.requests += 1;
        format!("00000000-0000-4000-8000-{:012}", self.requests)
    }
}
