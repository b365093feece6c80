//! Route tables, keys, and what goes wrong on request.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::{ACCESS_KEY, INSTANCE};
use crate::Namespace;
use crate::cloud::gce::router::Router;

/// The network of the lab.
pub(super) const VPC: &str = "vpc-lab00001";
pub(super) const SUBNET: &str = "subnet-lab00001";
pub(super) const MAIN_TABLE: &str = "rtb-lab00main";
pub(super) const CUSTOM_TABLE: &str = "rtb-labcustom";
/// The VPC's addresses.
pub(super) const VPC_CIDR: &str = "192.168.0.0/16";
const LOCAL: &str = "LOCAL";
/// How long a session of the role lasts.
const SESSION: Duration = Duration::from_hours(2);

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub id: u64,
    /// `rtb-…`
    pub table: &'static str,
    /// Where packets want to go.
    pub destination: Ipv4Net,
    /// `NORMAL_CVM`, …; `LOCAL` is the cloud's own.
    pub kind: String,
    /// The next hop; for an instance its private address.
    pub hop: String,
    /// Whether it is in force.
    pub enabled: bool,
}

impl Row {
    /// Whether somebody has made it.
    pub fn is_custom(&self) -> bool {
        self.kind != LOCAL
    }

    /// The address of the machine that it leads to; none: it leads to none.
    pub fn machine(&self) -> Option<Ipv4Addr> {
        (self.kind == INSTANCE).then(|| self.hop.parse().ok()).flatten()
    }
}

/// A call of the API.
#[derive(Clone, Debug)]
pub struct Call {
    /// Whose address it came from.
    pub from: IpAddr,
    /// `CreateRoutes`
    pub action: String,
    /// The parameters.
    pub body: Value,
    /// `OK`, or the error's code.
    pub outcome: String,
}

/// What a call meets.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is refused with this code, and nothing is done.
    Refuse(&'static str),
    /// It is carried out, and half of the answer comes.
    Half,
    /// It is carried out, and nothing comes for so long, and then the connection's end.
    Silence(Duration),
}

/// An error of the API: code and message.
pub(super) type Error = (String, String);

pub(super) fn error(code: &str, message: impl Into<String>) -> Error {
    (code.to_owned(), message.into())
}

/// All that the cloud has.
#[derive(Debug)]
pub(super) struct State {
    pub rows: Vec<Row>,
    pub has_custom_table: bool,
    pub quota: usize,
    pub denied: BTreeSet<String>,
    pub has_role: bool,
    /// The number of the session that is good now.
    pub session: usize,
    pub sessions_given: usize,
    pub faults: BTreeMap<String, VecDeque<Fault>>,
    pub calls: Vec<Call>,
    counter: u64,
    namespace: Namespace,
    router: Router,
}

impl State {
    pub fn new(namespace: Namespace) -> Self {
        let mut state = Self {
            rows: Vec::new(),
            has_custom_table: false,
            quota: 50,
            denied: BTreeSet::new(),
            has_role: true,
            session: 1,
            sessions_given: 0,
            faults: BTreeMap::new(),
            calls: Vec::new(),
            counter: 0,
            namespace,
            router: Router::default(),
        };
        if let Ok(destination) = VPC_CIDR.parse() {
            for table in [MAIN_TABLE, CUSTOM_TABLE] {
                state.add(table, destination, LOCAL, "local");
            }
        }
        state
    }

    pub fn add(&mut self, table: &'static str, destination: Ipv4Net, kind: &str, hop: &str) -> u64 {
        self.counter += 1;
        let (kind, hop) = (kind.to_owned(), hop.to_owned());
        self.rows.push(Row { id: self.counter, table, destination, kind, hop, enabled: true });
        self.counter
    }

    /// The tables that there are.
    pub fn tables(&self) -> Vec<&'static str> {
        if self.has_custom_table { vec![MAIN_TABLE, CUSTOM_TABLE] } else { vec![MAIN_TABLE] }
    }

    pub fn table_in_use(&self) -> &'static str {
        if self.has_custom_table { CUSTOM_TABLE } else { MAIN_TABLE }
    }

    /// Makes the router do what the rows ask for, before anybody sees that they are there.
    pub fn route(&mut self) {
        let wanted = self.routes();
        self.router.apply(&self.namespace, &wanted);
    }

    fn routes(&self) -> BTreeMap<String, IpAddr> {
        let rows = self.rows.iter().filter(|row| row.table == self.table_in_use() && row.enabled);
        rows.filter_map(|row| Some((row.destination.to_string(), row.machine()?.into()))).collect()
    }

    fn of_session(&self, what: &str) -> String {
        format!("{what}madeup{}", self.session)
    }

    /// What metadata says of the role's session.
    pub fn keys(&mut self) -> Value {
        self.sessions_given += 1;
        let end = (SystemTime::now() + SESSION).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        json!({
            "TmpSecretId": self.of_session("AKIDsession"),
            "TmpSecretKey": self.of_session("secret"),
            "ExpiredTime": end.as_secs(),
            "Expiration": "2026-01-01T00:00:00Z",
            "Token": self.of_session("token"),
            "Code": "Success",
        })
    }

    /// The secret of a key. The token belongs to keys of sessions.
    pub fn secret(&self, id: &str, token: Option<&str>) -> Result<String, Error> {
        if id == ACCESS_KEY.0 {
            return Ok(ACCESS_KEY.1.to_owned());
        }
        if !id.starts_with("AKIDsession") {
            return Err(error(
                "AuthFailure.SecretIdNotFound",
                "The SecretId is not found, please ensure that your SecretId is correct.",
            ));
        }
        if id != self.of_session("AKIDsession") || token != Some(&self.of_session("token")) {
            return Err(error(
                "AuthFailure.TokenFailure",
                "The token in the request is wrong or has expired.",
            ));
        }
        Ok(self.of_session("secret"))
    }

    pub fn secrets(&self) -> Vec<String> {
        let sessions = 1..=self.session;
        let of_sessions =
            sessions.flat_map(|number| [format!("secretmadeup{number}"), format!("tokenmadeup{number}")]);
        of_sessions.chain([ACCESS_KEY.1.to_owned()]).collect()
    }
}
