//! What one route table should have of this node, and the next step on the way there.

use std::net::Ipv4Addr;

use flannel_backend::ipnet::Ipv4Net;
use flannel_backend::log;

use crate::api::{self, Error, INSTANCE, Refusal, Route, Table};

/// What should be: a route to this node's subnet, and no other to it inside the cluster's network.
pub struct Wanted<'a> {
    pub table: &'a Table,
    /// The address that the route leads to.
    pub hop: Ipv4Addr,
    /// All addresses of this instance.
    pub addresses: &'a [Ipv4Addr],
    /// This node's subnet; none: there is to be no route.
    pub own: Option<Ipv4Net>,
    /// The cluster's network. Nothing outside of it is ever touched.
    pub network: Ipv4Net,
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
        match (self.sweep(), self.own) {
            (Ok(Progress::Done), Some(own)) => self.put(own),
            // What is stale takes up room, and is no reason to be without the own one.
            (Err(reason), Some(own)) => match self.put(own)? {
                Progress::Done => Err(reason),
                other => Ok(other),
            },
            (swept, _) => swept,
        }
    }

    fn is_mine(&self, route: &Route) -> bool {
        let hop = route.hop.parse::<Ipv4Addr>();
        route.is_custom && route.kind == INSTANCE && hop.is_ok_and(|hop| self.addresses.contains(&hop))
    }

    /// Removes a route that this instance has left behind, from the time when it had another subnet.
    fn sweep(&self) -> Result<Progress, String> {
        let is_stale = |route: &&Route| {
            self.is_mine(route)
                && self.network.contains(&route.destination)
                && Some(route.destination) != self.own
        };
        let stale = self.table.routes.iter().find(is_stale);
        stale.map_or(Ok(Progress::Done), |route| self.delete(route, "it is this node's no more"))
    }

    /// Has a route to this node's subnet.
    fn put(&self, own: Ipv4Net) -> Result<Progress, String> {
        let mut there = self.table.routes.iter().filter(|route| route.destination == own);
        let right =
            |route: &Route| self.is_mine(route) && route.is_enabled && route.hop == self.hop.to_string();
        if there.clone().any(right) {
            return Ok(Progress::Done);
        }
        match there.next() {
            None => self.create(own),
            Some(route) if self.is_mine(route) && route.hop == self.hop.to_string() => {
                self.delete(route, "it is disabled")
            }
            Some(route) if self.is_mine(route) => {
                self.delete(route, "it leads to another address of this instance")
            }
            Some(route) if route.is_custom && route.kind == INSTANCE => {
                self.delete(route, "another node had it")
            }
            Some(Route { id, kind, hop, .. }) => {
                let table = &self.table.id;
                Err(format!(
                    "route table {table} has a route to this node's subnet {own} already, {id}, whose next hop is {kind} {hop}: remove it, or \
                     give the cluster another network"
                ))
            }
        }
    }

    fn delete(&self, route: &Route, reason: &str) -> Result<Progress, String> {
        let table = &self.table.id;
        match api::delete(table, route.id) {
            Ok(()) => {
                let destination = route.destination.to_string();
                let fields = [
                    ("destination", &*destination),
                    ("hop", &route.hop),
                    ("table", table),
                    ("reason", reason),
                ];
                log::info("route removed", &fields);
                Ok(Progress::Changed)
            }
            // What was read is old.
            Err(Error::Refused(refusal)) if refusal.is_gone() || refusal.is_busy() => {
                Ok(Progress::Waits(refusal.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn create(&self, own: Ipv4Net) -> Result<Progress, String> {
        let (table, hop) = (&self.table.id, self.hop.to_string());
        match api::create(table, own, &hop) {
            Ok(()) => {
                log::info(
                    "route made",
                    &[("destination", &own.to_string()), ("hop", &hop), ("table", table)],
                );
                Ok(Progress::Changed)
            }
            // Somebody was faster, or what was read is old.
            Err(Error::Refused(refusal)) if refusal.is_duplicate() || refusal.is_busy() => {
                Ok(Progress::Waits(refusal.to_string()))
            }
            Err(Error::Refused(refusal)) if refusal.is_quota() => Err(self.full(&refusal)),
            Err(error) => Err(error.into()),
        }
    }

    /// What an operator needs to know of a table that has no room.
    fn full(&self, refusal: &Refusal) -> String {
        let count = self.table.routes.iter().filter(|route| route.is_custom).count();
        format!(
            "route table {} is full, custom routes: {count}; remove some, or have its quota raised (routes per route table). {refusal}",
            self.table.id
        )
    }
}
