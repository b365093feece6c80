//! The thread that has the tables.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use flannel_base::{Family, LogThrottle};
use tracing::{debug, info, warn};

use super::message::ELEMENTS;
use super::socket::TableSocket;
use super::{Shared, SourcesStatus, Tunnel, Wanted, lock, rules};

/// How often the counters are read, and what failed is tried again.
const LOOK: Duration = Duration::from_secs(5);
/// How long a line about dropped packets, or a failure, is not said again.
const REMIND: Duration = Duration::from_mins(10);

/// The state of the thread.
pub(super) struct Keeper {
    table: String,
    shared: Arc<Shared>,
    socket: Option<TableSocket>,
    /// Families that have a table.
    families: BTreeSet<Family>,
    /// Addresses that are in the sets.
    there: BTreeSet<IpAddr>,
    /// Packets that tables which are gone had dropped.
    earlier: u64,
    /// Packets that have been told of.
    told: u64,
    failures: LogThrottle,
    strangers: LogThrottle,
}

/// What the thread has to do.
struct Task {
    tunnels: Option<BTreeSet<Tunnel>>,
    come: Vec<IpAddr>,
    go: Vec<IpAddr>,
}

impl Keeper {
    pub(super) fn new(table: String, shared: Arc<Shared>) -> Self {
        Self {
            table,
            shared,
            socket: None,
            families: BTreeSet::new(),
            there: BTreeSet::new(),
            earlier: 0,
            told: 0,
            failures: LogThrottle::new(Some(REMIND)),
            strangers: LogThrottle::new(Some(REMIND)),
        }
    }

    /// Works until the other side is dropped.
    pub(super) fn run(mut self) {
        let mut again = false;
        while let Some(task) = self.wait(again) {
            let outcome = self.work(task);
            again = outcome.is_err();
            if again {
                self.give_up();
            }
            self.tell(outcome.map_err(|error| explained(&error)));
        }
    }

    /// Waits for something to do. `again`: all of it, after a while. `None`: it is over.
    fn wait(&self, again: bool) -> Option<Task> {
        let wanted = lock(&self.shared.wanted);
        let begin = Instant::now();
        let idle = |wanted: &mut Wanted| {
            let has_news = wanted.over || (!again && wanted.known && wanted.has_news());
            !has_news && begin.elapsed() < LOOK
        };
        let (mut wanted, _) =
            self.shared.news.wait_timeout_while(wanted, LOOK, idle).unwrap_or_else(PoisonError::into_inner);
        if wanted.over {
            return None;
        }
        if !wanted.known {
            return Some(Task { tunnels: None, come: Vec::new(), go: Vec::new() });
        }
        let all = self.socket.is_none();
        let touched = wanted.touched.replace(BTreeSet::new()).filter(|_| !all);
        let (come, go) = match touched {
            Some(touched) => {
                let (is, was) = (|address: &IpAddr| wanted.holders.contains_key(address), &self.there);
                let come = touched.iter().filter(|one| is(one) && !was.contains(one)).copied().collect();
                let go = touched.iter().filter(|one| !is(one) && was.contains(one)).copied().collect();
                (come, go)
            }
            None => (
                wanted.holders.keys().filter(|one| !self.there.contains(one)).copied().collect(),
                self.there.iter().filter(|one| !wanted.holders.contains_key(one)).copied().collect(),
            ),
        };
        let tunnels = (std::mem::take(&mut wanted.other_tunnels) || all).then(|| wanted.tunnels.clone());
        Some(Task { tunnels, come, go })
    }

    fn work(&mut self, task: Task) -> io::Result<()> {
        let needed = task.tunnels.as_ref().is_some_and(|tunnels| !tunnels.is_empty());
        if task.tunnels.is_some() && !needed {
            // The backend that had tunnels is another one now.
            self.give_up();
            return Ok(());
        }
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None if needed => TableSocket::open()?,
            None => return Ok(()),
        };
        let outcome = self.work_with(&mut socket, task);
        self.socket = Some(socket);
        outcome
    }

    fn work_with(&mut self, socket: &mut TableSocket, task: Task) -> io::Result<()> {
        let Task { tunnels, come, go } = task;
        let is_of = |family| move |address: &&IpAddr| Family::of(**address) == family;
        for family in self.families.clone() {
            // Who comes, first: at no moment is a node that has only changed its number a stranger.
            for (come, addresses) in [(true, &come), (false, &go)] {
                let of_family: Vec<IpAddr> = addresses.iter().filter(is_of(family)).copied().collect();
                for some in of_family.chunks(ELEMENTS) {
                    socket.transact(family, &self.table, |messages| messages.elements(come, some))?;
                }
            }
        }
        self.there.extend(come);
        self.there.retain(|address| !go.contains(address));
        for family in tunnels.iter().flat_map(|_| Family::ALL) {
            let rules = rules::of(tunnels.as_ref().unwrap_or(&BTreeSet::new()), family);
            let is_new = !rules.is_empty() && self.families.insert(family);
            if !self.families.contains(&family) {
                continue;
            }
            if is_new {
                // All nodes are in the set before a packet is asked where it comes from.
                socket.make_table(family, &self.table)?;
                let addresses: Vec<IpAddr> = self.there.iter().filter(is_of(family)).copied().collect();
                for some in addresses.chunks(ELEMENTS) {
                    socket.transact(family, &self.table, |messages| messages.elements(true, some))?;
                }
            }
            socket.transact(family, &self.table, |messages| {
                if is_new {
                    messages.chain();
                } else {
                    messages.flush();
                }
                for rule in &rules {
                    messages.rule(rule);
                }
            })?;
            debug!(?family, rules = rules.len(), "rules for the sources of tunnels' packets set");
        }
        Ok(())
    }

    /// The tables go with the socket; all is made anew.
    fn give_up(&mut self) {
        self.earlier += self.count();
        self.socket = None;
        self.families.clear();
        self.there.clear();
    }

    fn count(&mut self) -> u64 {
        let Some(socket) = &mut self.socket else { return 0 };
        let counts =
            self.families.iter().map(|family| socket.count(*family, &self.table).unwrap_or_default());
        counts.sum()
    }

    fn tell(&mut self, outcome: Result<(), String>) {
        let dropped = (self.earlier + self.count()).max(self.told);
        let status = SourcesStatus {
            in_place: outcome.is_ok() && !self.families.is_empty(),
            error: outcome.err(),
            addresses: self.there.len(),
            dropped,
        };
        let was_in_place = std::mem::replace(&mut *lock(&self.shared.status), status.clone()).in_place;
        if status.in_place && !was_in_place {
            info!("tunnels take packets only from addresses that leases publish");
        }
        match &status.error {
            Some(error) if self.failures.says(error, Instant::now()) => {
                warn!(error, "tunnels take packets from any host; trying again every {LOOK:?}");
            }
            Some(_) => {}
            None => self.failures.reset(),
        }
        if dropped > self.told && self.strangers.says("packets of strangers", Instant::now()) {
            warn!(
                packets = dropped - self.told,
                "packets for this node's tunnels came from addresses that no lease publishes, and were dropped; where nodes send from other \
                 addresses than they publish, they need --tunnel-source-check=false"
            );
            self.told = dropped;
        }
    }
}

fn explained(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::EPROTONOSUPPORT | libc::ENOENT) => {
            format!(
                "nf_tables of this kernel does not do it: Linux 5.12 or newer with nf_tables is needed ({error})"
            )
        }
        Some(libc::EPERM | libc::EACCES) => {
            format!("the kernel does not let this process set rules: CAP_NET_ADMIN is needed ({error})")
        }
        _ => error.to_string(),
    }
}
