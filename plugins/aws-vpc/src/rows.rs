//! What one route table should have of this node, and the way there.

use std::collections::BTreeMap;
use std::time::Duration;

use flannel_backend::ipnet::IpNet;
use flannel_backend::{clock, log};

use crate::api::{Ec2, Error, Row, State, Table};

/// Reads may show what was before for a while. So long after a row was removed, one that is still seen is looked at again instead of
/// removed again: by now it may be another node's.
const SETTLING: Duration = Duration::from_secs(20);

/// What should be: a row for each of this node's subnets, and inside the cluster's networks no other to this node, and none that leads
/// nowhere.
pub struct Wanted<'a> {
    pub interface: &'a str,
    pub instance: &'a str,
    /// Its subnets; none: it has another backend now, and nothing here any more.
    pub own: Option<&'a [IpNet]>,
    /// The cluster's networks. Nothing outside of them is ever touched.
    pub networks: &'a [IpNet],
}

/// One thing to do.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Create(IpNet),
    Replace(IpNet),
    Delete(IpNet, &'static str),
}

/// What came of it, over all tables.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Something was changed.
    pub changed: bool,
    /// What could not be done yet.
    pub waits: Option<String>,
    /// What could not be done.
    pub problems: Vec<String>,
}

/// Rows that were removed, and when, by table and destination.
#[derive(Debug, Default)]
pub struct Removed(BTreeMap<(String, IpNet), Duration>);

impl Removed {
    /// Forgets what was long enough ago.
    pub fn expire(&mut self) {
        let now = clock::monotonic();
        self.0.retain(|_, at| now.saturating_sub(*at) < SETTLING);
    }
}

impl Wanted<'_> {
    /// Does all that is to be done to one table. What one step meets keeps no other from being taken.
    pub fn see_to(&self, ec2: &mut Ec2, table: &Table, removed: &mut Removed, outcome: &mut Outcome) {
        for step in self.steps(table) {
            if let Step::Delete(destination, _) = step
                && removed.0.contains_key(&(table.id.clone(), destination))
            {
                outcome.waits = Some(format!("route table {} still shows {destination}", table.id));
                continue;
            }
            if !ec2.has_more() {
                outcome.waits = Some(format!("there is more to be done to route table {}", table.id));
                return;
            }
            match self.take(ec2, table, &step) {
                Ok(()) => {
                    outcome.changed = true;
                    if let Step::Delete(destination, _) = step {
                        removed.0.insert((table.id.clone(), destination), clock::monotonic());
                    }
                }
                Err(Error::Refused(refusal)) if refusal.is_race() => {
                    outcome.waits = Some(format!("route table {}: {refusal}", table.id));
                }
                Err(Error::Refused(refusal)) if refusal.is_full() => {
                    outcome.problems.push(full(table, &step, &refusal.to_string()));
                }
                Err(error) => {
                    outcome.problems.push(format!("route table {}: {}", table.id, String::from(error)));
                }
            }
        }
    }

    /// What is wrong first, since that may make room for what is missing.
    fn steps(&self, table: &Table) -> Vec<Step> {
        let custom = || table.rows.iter().filter(|row| row.is_custom);
        let superfluous =
            custom().filter_map(|row| Some(Step::Delete(row.destination, self.superfluous(row)?)));
        let own = self.own.unwrap_or_default().iter().filter_map(|own| {
            match custom().find(|row| row.destination == *own) {
                None => Some(Step::Create(*own)),
                Some(row) if row.state == State::Active && self.is_to_me(row) => None,
                Some(_) => Some(Step::Replace(*own)),
            }
        });
        superfluous.chain(own).collect()
    }

    /// Why a row should not be.
    fn superfluous(&self, row: &Row) -> Option<&'static str> {
        let is_inside = self.networks.iter().any(|network| network.contains(&row.destination));
        if !is_inside || self.own.is_some_and(|own| own.contains(&row.destination)) {
            return None;
        }
        let is_mine = self.is_to_me(row) || self.is_to_instance(row);
        match row.state {
            // Whose it was is not known: the nodes that stay look after it.
            State::Blackhole if self.own.is_some() => Some("it leads nowhere"),
            _ if is_mine => Some("it is this node's no more"),
            _ => None,
        }
    }

    /// Whether it leads to our interface. An instance may stand for its only one.
    fn is_to_me(&self, row: &Row) -> bool {
        if row.interface.is_empty() { self.is_to_instance(row) } else { row.interface == self.interface }
    }

    fn is_to_instance(&self, row: &Row) -> bool {
        !row.instance.is_empty() && row.instance == self.instance
    }

    /// Each step is one call, which is carried out as a whole or not at all; and the next tick reads what there is. So nothing has to be
    /// remembered over a restart or for another plugin.
    fn take(&self, ec2: &mut Ec2, table: &Table, step: &Step) -> Result<(), Error> {
        let (message, destination, reason) = match *step {
            Step::Create(destination) => {
                ec2.create(&table.id, destination, self.interface)?;
                ("route created", destination, "it was missing")
            }
            Step::Replace(destination) => {
                ec2.replace(&table.id, destination, self.interface)?;
                ("route replaced", destination, "it led elsewhere")
            }
            Step::Delete(destination, reason) => {
                ec2.delete(&table.id, destination)?;
                ("route deleted", destination, reason)
            }
        };
        let destination = destination.to_string();
        log::info(message, &[("table", &table.id), ("destination", &destination), ("reason", reason)]);
        Ok(())
    }
}

/// What an operator needs to know of a table that has no room. AWS counts the families apart, and no propagated routes.
fn full(table: &Table, step: &Step, refusal: &str) -> String {
    let (Step::Create(own) | Step::Replace(own) | Step::Delete(own, _)) = step;
    let is_like = |row: &&Row| !row.is_propagated && row.destination.addr().is_ipv4() == own.addr().is_ipv4();
    let count = table.rows.iter().filter(is_like).count();
    let (id, family) = (&table.id, if own.addr().is_ipv4() { "IPv4" } else { "IPv6" });
    format!(
        "route table {id} is full, with {count} {family} routes: {refusal}: remove some, or have the quota \"Routes per route \
         table\" of Amazon VPC raised"
    )
}
