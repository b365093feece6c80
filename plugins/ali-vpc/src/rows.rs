//! What one route table should have of this node, and the next step on the way there.

use flannel_backend::cloud::Instance;
use flannel_backend::ipnet::IpNet;
use flannel_backend::log;

use crate::api::{self, Entry, Error, Refusal};
use crate::attempt;

/// What should be: a row for each of this node's subnets, and no other to it inside the cluster's networks.
pub struct Wanted<'a> {
    pub me: &'a Instance,
    pub table: &'a str,
    pub own: &'a [IpNet],
    pub networks: &'a [IpNet],
}

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// All is as it should be.
    Done,
    /// Something was changed.
    Changed,
    /// Something has to end before anything else can be done.
    Waits(String),
}

impl Wanted<'_> {
    /// Takes one step. What can be done is done even where something else is wrong.
    pub fn approach(&self) -> Result<Progress, String> {
        let to_me = [("RouteEntryType", "Custom"), ("NextHopType", "Instance"), ("NextHopId", &self.me.id)];
        let mine = api::entries(self.me, self.table, &to_me)?;
        let mut problem = None;
        for step in [self.sweep(&mine)].into_iter().chain(self.own.iter().map(|own| self.put(*own, &mine))) {
            match step {
                Ok(Progress::Done) => {}
                Ok(other) => return Ok(other),
                Err(reason) => problem = problem.or(Some(reason)),
            }
        }
        problem.map_or(Ok(Progress::Done), Err)
    }

    /// Removes a row that this instance has left behind, from the time when it had another subnet.
    fn sweep(&self, mine: &[Entry]) -> Result<Progress, String> {
        let is_inside =
            |entry: &&Entry| self.networks.iter().any(|network| network.contains(&entry.destination));
        let stale = mine.iter().filter(is_inside).find(|entry| !self.own.contains(&entry.destination));
        stale.map_or(Ok(Progress::Done), |entry| self.delete(entry, "it is this node's no more"))
    }

    /// Has a row for one of this node's subnets.
    fn put(&self, own: IpNet, mine: &[Entry]) -> Result<Progress, String> {
        if let Some(entry) = mine.iter().find(|entry| entry.destination == own) {
            return self.keep(entry);
        }
        let destination = own.to_string();
        let there = api::entries(self.me, self.table, &[("DestinationCidrBlock", &destination)])?;
        let Some(entry) = there.into_iter().find(|entry| entry.destination == own) else {
            return self.create(own);
        };
        match &entry.hop {
            Some((kind, hop)) if self.is_me(kind, hop) => self.keep(&entry),
            Some((kind, _)) if entry.is_custom && kind == "Instance" => {
                self.delete(&entry, "another node had it")
            }
            hop => {
                let to = hop.as_ref().map_or("several".to_owned(), |(kind, hop)| format!("{kind} {hop}"));
                let (table, id) = (self.table, &entry.id);
                Err(format!(
                    "route table {table} has an entry for this node's subnet {own} already, {id}, whose next hop is {to}: \
                     remove it, or give the cluster another network"
                ))
            }
        }
    }

    fn is_me(&self, kind: &str, hop: &str) -> bool {
        let mut interfaces = self.me.interfaces.iter();
        match kind {
            "Instance" => hop == self.me.id,
            "NetworkInterface" => interfaces.any(|interface| interface.id == hop),
            _ => false,
        }
    }

    fn keep(&self, entry: &Entry) -> Result<Progress, String> {
        if entry.is_available {
            attempt::end(self.table, entry.destination, &self.me.id)?;
            return Ok(Progress::Done);
        }
        Ok(self.waits_for(entry))
    }

    fn waits_for(&self, entry: &Entry) -> Progress {
        let (id, destination, table) = (&entry.id, entry.destination, self.table);
        Progress::Waits(format!(
            "entry {id} for {destination} of route table {table} is neither made nor removed yet"
        ))
    }

    fn delete(&self, entry: &Entry, reason: &str) -> Result<Progress, String> {
        if !entry.is_available {
            return Ok(self.waits_for(entry));
        }
        match api::delete(self.me, &entry.id) {
            Ok(()) => {
                let (destination, table) = (entry.destination.to_string(), self.table);
                let hop = entry.hop.as_ref().map_or("", |(_, hop)| hop);
                let fields =
                    [("destination", &*destination), ("hop", hop), ("table", table), ("reason", reason)];
                log::info("route entry removed", &fields);
                Ok(Progress::Changed)
            }
            // What was read is old.
            Err(Error::Refused(refusal)) if refusal.is_gone() || refusal.is_busy() => {
                Ok(Progress::Waits(refusal.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn create(&self, own: IpNet) -> Result<Progress, String> {
        let (table, instance) = (self.table, &self.me.id);
        let Some(token) = attempt::token(table, own, instance)? else {
            attempt::begin(table, own, instance)?;
            return Ok(Progress::Changed);
        };
        match api::create(self.me, table, own, &token) {
            Ok(()) => {
                let destination = own.to_string();
                log::info("route entry asked for", &[("destination", &destination), ("table", table)]);
                Ok(Progress::Waits(format!("route table {table} does not show the entry for {own} yet")))
            }
            Err(Error::Refused(refusal)) if refusal.is_busy() => Ok(Progress::Waits(refusal.to_string())),
            // Somebody was faster, or what was read is old: this attempt is over.
            Err(Error::Refused(refusal)) if refusal.is_duplicate() || refusal.is_other_token() => {
                attempt::end(table, own, instance)?;
                Ok(Progress::Waits(refusal.to_string()))
            }
            Err(Error::Refused(refusal)) if refusal.is_quota() => Err(self.full(&refusal)),
            Err(error) => Err(error.into()),
        }
    }

    /// What an operator needs to know of a table that has no room.
    fn full(&self, refusal: &Refusal) -> String {
        let all = api::entries(self.me, self.table, &[("RouteEntryType", "Custom")]);
        let count = all.map_or("unknown".to_owned(), |all| all.len().to_string());
        let table = self.table;
        format!(
            "route table {table} is full, custom entries: {count}; remove some, or have its quota raised \
             (vpc_quota_route_entrys_num, in the Quota Center). {refusal}"
        )
    }
}
