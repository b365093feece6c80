//! What there is.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;

use super::TOKEN;

/// How long a change takes.
const CHANGE: Duration = Duration::from_millis(300);
/// Routes of a network.
const LIMIT: usize = 100;

/// A row of the network's routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where packets go.
    pub destination: Ipv4Net,
    /// The machine's address.
    pub gateway: Ipv4Addr,
}

/// A call of the API.
#[derive(Clone, Debug)]
pub struct Call {
    /// Whose address it came from.
    pub from: IpAddr,
    /// `GET`
    pub method: String,
    /// `/networks/4711`
    pub path: String,
    /// The token that came with it.
    pub token: String,
    /// Of the answer; 0: there was none.
    pub status: u16,
}

/// How a call goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is refused, with a status, a code, and more headers.
    Refused(u16, &'static str, Vec<(&'static str, &'static str)>),
    /// It is carried out, and the answer breaks off in the middle.
    Half,
    /// No answer, for so long; nothing is carried out.
    Silence(Duration),
    /// It is accepted, and the action fails.
    Fails(&'static str),
    /// It leads elsewhere.
    Elsewhere(&'static str),
    /// It is answered with what it was asked.
    Echo,
}

/// A machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub name: String,
    pub address: Ipv4Addr,
}

/// What an action does when its time has come.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Add(Row),
    Delete(Row),
    Fail(&'static str),
}

#[derive(Debug)]
pub(super) struct State {
    pub machines: Vec<Machine>,
    pub rows: Vec<Row>,
    pub readers: Vec<String>,
    pub writers: Vec<String>,
    pub calls: Vec<Call>,
    pub faults: VecDeque<(String, Fault)>,
    pub limit: usize,
    /// Actions that are over, with how they have failed.
    pub ended: BTreeMap<u64, (&'static str, Option<&'static str>)>,
    running: Option<(u64, Instant, Change)>,
    number: u64,
}

impl State {
    pub(super) fn new(machines: Vec<Machine>) -> Self {
        Self {
            machines,
            rows: Vec::new(),
            readers: Vec::new(),
            writers: vec![TOKEN.to_owned()],
            calls: Vec::new(),
            faults: VecDeque::new(),
            limit: LIMIT,
            ended: BTreeMap::new(),
            running: None,
            number: 0,
        }
    }

    /// What was begun and has had its time is done.
    pub(super) fn advance(&mut self) {
        let Some((id, _, change)) = self.running.take_if(|(_, at, _)| at.elapsed() >= CHANGE) else { return };
        let outcome = match change {
            Change::Add(row) => {
                self.rows.push(row);
                ("add_route", None)
            }
            Change::Delete(row) => {
                self.rows.retain(|known| *known != row);
                ("delete_route", None)
            }
            Change::Fail(code) => ("add_route", Some(code)),
        };
        self.ended.insert(id, outcome);
    }

    /// Whether a change is being carried out.
    pub(super) fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// Begins a change; answers with the action's number.
    pub(super) fn begin(&mut self, change: Change) -> u64 {
        self.number += 1;
        self.running = Some((self.number, Instant::now(), change));
        self.number
    }

    /// Whether an action is being carried out.
    pub(super) fn is_running(&self, id: u64) -> bool {
        self.running.as_ref().is_some_and(|(running, _, _)| *running == id)
    }

    /// What the rows mean for the router.
    pub(super) fn routes(&mut self) -> BTreeMap<String, IpAddr> {
        self.advance();
        self.rows.iter().map(|row| (row.destination.to_string(), row.gateway.into())).collect()
    }

    pub(super) fn take_fault(&mut self, call: &str) -> Option<Fault> {
        let at = self.faults.iter().position(|(begin, _)| call.starts_with(begin.as_str()))?;
        self.faults.remove(at).map(|(_, fault)| fault)
    }
}
