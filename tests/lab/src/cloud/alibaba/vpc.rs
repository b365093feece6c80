//! The network: route tables and their entries, over time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::address_of;
use super::fault::Error;

/// The network of the lab.
pub(super) const VPC: &str = "vpc-lab00000000000000001";
pub(super) const VROUTER: &str = "vrt-lab00000000000000001";
pub(super) const VSWITCH: &str = "vsw-lab00000000000000001";
pub(super) const SYSTEM_TABLE: &str = "vtb-lab00000000000system";
pub(super) const CUSTOM_TABLE: &str = "vtb-lab00000000000custom";
/// The vSwitch's addresses, and those of the cloud's own services.
pub(super) const VSWITCH_CIDR: &str = "192.168.77.0/24";
const SERVICE_CIDR: &str = "100.64.0.0/10";

/// Where an entry is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is being made.
    Pending,
    /// It is in force.
    Available,
    /// It is being taken away.
    Deleting,
}

impl Status {
    /// As the API has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Available => "Available",
            Self::Deleting => "Deleting",
        }
    }
}

/// A route entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `rte-…`
    pub id: String,
    /// `vtb-…`
    pub table: String,
    /// Where packets want to go.
    pub destination: IpNet,
    /// `Instance`, …; `local` and `service` are the system's.
    pub kind: String,
    /// The next hop's identifier.
    pub hop: String,
    /// Where it is in its life.
    pub status: Status,
    /// When that changes.
    due: Option<Instant>,
}

impl Entry {
    /// Whether somebody has made it.
    pub fn is_custom(&self) -> bool {
        !matches!(self.kind.as_str(), "local" | "service")
    }
}

/// A route table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub id: &'static str,
    pub kind: &'static str,
    pub vswitches: Vec<&'static str>,
}

/// What is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub table: String,
    pub destination: IpNet,
    pub kind: String,
    pub hop: String,
}

/// The address to which packets for an entry go, in the family of its destination. Nodes of the lab have the same digits in both.
fn hop_for(entry: &Entry) -> Option<IpAddr> {
    let address = address_of(&entry.hop)?;
    if entry.destination.addr().is_ipv4() {
        return Some(address.into());
    }
    let [.., third, fourth] = address.octets();
    format!("fd{third}::{fourth}").parse().ok()
}

#[derive(Debug)]
pub(super) struct Vpc {
    pub tables: Vec<Table>,
    pub settling: Duration,
    pub staleness: Duration,
    pub quota: usize,
    entries: Vec<Entry>,
    // What there was, and from when on; the newest last.
    history: Vec<(Instant, Vec<Entry>)>,
    // By client token: what was asked for, and the entry that it made.
    tokens: BTreeMap<String, (Wish, String)>,
    counter: u32,
}

impl Vpc {
    pub fn new() -> Self {
        let mut vpc = Self {
            tables: Vec::new(),
            settling: Duration::from_millis(100),
            staleness: Duration::ZERO,
            quota: 200,
            entries: Vec::new(),
            history: Vec::new(),
            tokens: BTreeMap::new(),
            counter: 0,
        };
        vpc.add_table(SYSTEM_TABLE, "System");
        vpc
    }

    fn add_table(&mut self, id: &'static str, kind: &'static str) {
        self.tables.iter_mut().for_each(|table| table.vswitches.clear());
        self.tables.push(Table { id, kind, vswitches: vec![VSWITCH] });
        for (cidr, kind) in [(VSWITCH_CIDR, "local"), (SERVICE_CIDR, "service")] {
            if let Ok(destination) = cidr.parse() {
                let hop = if kind == "local" { VSWITCH } else { "" };
                self.make(id, destination, kind, hop, Status::Available);
            }
        }
        self.remember(Instant::now());
    }

    pub fn use_custom_table(&mut self) -> String {
        if self.tables.len() == 1 {
            self.add_table(CUSTOM_TABLE, "Custom");
        }
        CUSTOM_TABLE.to_owned()
    }

    pub fn table_in_use(&self) -> &str {
        self.tables.iter().find(|table| !table.vswitches.is_empty()).map_or("", |table| table.id)
    }

    fn make(&mut self, table: &str, destination: IpNet, kind: &str, hop: &str, status: Status) -> String {
        self.counter += 1;
        let id = format!("rte-lab{:016}", self.counter);
        let due = (status != Status::Available).then(|| Instant::now() + self.settling);
        self.entries.push(Entry {
            id: id.clone(),
            table: table.to_owned(),
            destination,
            kind: kind.to_owned(),
            hop: hop.to_owned(),
            status,
            due,
        });
        id
    }

    /// All entries as they are.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// All entries as a read sees them.
    pub fn seen(&self) -> &[Entry] {
        let (now, staleness) = (Instant::now(), self.staleness);
        let seen = self.history.iter().rev().find(|(begin, _)| now.duration_since(*begin) >= staleness);
        seen.or(self.history.first()).map_or(&[], |(_, entries)| entries)
    }

    /// Notes what there is now, for reads that come late.
    pub fn remember(&mut self, now: Instant) {
        if self.history.last().is_none_or(|(_, last)| *last != self.entries) {
            self.history.push((now, self.entries.clone()));
        }
    }

    /// Does what is due. Answers whether something was.
    pub fn pass(&mut self, now: Instant) -> bool {
        let is_due = |entry: &Entry| entry.due.is_some_and(|due| due <= now);
        if !self.entries.iter().any(is_due) {
            return false;
        }
        self.entries.retain(|entry| !(is_due(entry) && entry.status == Status::Deleting));
        for entry in self.entries.iter_mut().filter(|entry| is_due(entry)) {
            (entry.status, entry.due) = (Status::Available, None);
        }
        self.remember(now);
        true
    }

    /// The routes that the table in use makes: to instances, once they are in force.
    pub fn routes(&self) -> BTreeMap<IpNet, IpAddr> {
        let table = self.table_in_use();
        let in_force = self.entries.iter().filter(|entry| {
            entry.table == table && entry.kind == "Instance" && entry.status == Status::Available
        });
        in_force.filter_map(|entry| Some((entry.destination, hop_for(entry)?))).collect()
    }

    pub fn add(&mut self, destination: IpNet, kind: &str, hop: &str) {
        let table = self.table_in_use().to_owned();
        self.make(&table, destination, kind, hop, Status::Available);
    }

    pub fn take(&mut self, destination: IpNet) -> bool {
        let (table, before) = (self.table_in_use().to_owned(), self.entries.len());
        self.entries.retain(|entry| entry.table != table || entry.destination != destination);
        self.entries.len() < before
    }

    /// Makes an entry, or says which one the token has made before.
    pub fn create(&mut self, wish: Wish, token: Option<&str>) -> Result<String, Error> {
        if let Some((before, id)) = token.and_then(|token| self.tokens.get(token)) {
            let text = "The request uses the same client token as a previous, but non-identical request.";
            let is_same = *before == wish;
            return if is_same {
                Ok(id.clone())
            } else {
                Err(Error::new(400, "IdempotentParameterMismatch", text))
            };
        }
        self.may_create(&wish)?;
        let id = self.make(&wish.table, wish.destination, &wish.kind, &wish.hop, Status::Pending);
        if let Some(token) = token {
            self.tokens.insert(token.to_owned(), (wish, id.clone()));
        }
        Ok(id)
    }

    fn may_create(&self, wish: &Wish) -> Result<(), Error> {
        let table = self.tables.iter().find(|table| table.id == wish.table);
        let text = "Specified route table does not exist.";
        let table = table.ok_or_else(|| Error::new(404, "InvalidRouteTableId.NotFound", text))?;
        if wish.kind == "Instance" && address_of(&wish.hop).is_none() {
            return Err(Error::new(400, "InvalidNextHop.NotFound", "Specified next hop does not exist."));
        }
        if table.kind == "Custom" && wish.destination.addr().is_ipv6() {
            let text = "You cannot create any IPv6 route entry on a custom route table.";
            return Err(Error::new(400, "OperationDenied.Ipv6EntryOnCustomTable", text));
        }
        self.is_settled()?;
        let mut of_table = self.entries.iter().filter(|entry| entry.table == wish.table);
        if of_table.clone().any(|entry| !entry.is_custom() && entry.destination.contains(&wish.destination)) {
            return Err(Error::new(400, "InvalidCidrBlock", "Specified CIDR block is not valid."));
        }
        if of_table.clone().any(|entry| entry.destination == wish.destination) {
            let text = "Specified CIDR block is already exists.";
            return Err(Error::new(400, "InvalidCIDRBlock.Duplicate", text));
        }
        if of_table.by_ref().filter(|entry| entry.is_custom()).count() >= self.quota {
            let text = "Route entry quota exceeded in this route table.";
            return Err(Error::new(400, "QuotaExceeded", text));
        }
        Ok(())
    }

    /// Takes an entry away.
    pub fn delete(&mut self, is_it: impl Fn(&Entry) -> bool) -> Result<(), Error> {
        let at = self.entries.iter().position(is_it);
        let missing = || Error::new(400, "InvalidRouteEntry.NotFound", "Route entry not exists.");
        let at = at.ok_or_else(missing)?;
        if !self.entries[at].is_custom() {
            let text = "Specified operation is denied as route entry type is system.";
            return Err(Error::new(400, "OperationDenied", text));
        }
        self.is_settled()?;
        self.entries[at].due = Some(Instant::now() + self.settling);
        self.entries[at].status = Status::Deleting;
        Ok(())
    }

    /// One change at a time.
    fn is_settled(&self) -> Result<(), Error> {
        let text = "Some route entry status blocked this operation.";
        let is_settled = self.entries.iter().all(|entry| entry.status == Status::Available);
        if is_settled { Ok(()) } else { Err(Error::new(400, "IncorrectRouteEntryStatus", text)) }
    }
}
