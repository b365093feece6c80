//! What the project has: machines, routes, and what is being done about them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::errors::Refusal;
use super::faults::Faults;
use super::operations::{Operation, Pace};
use super::tokens::Tokens;
use super::{NETWORK, PROJECT, ZONE, moment};

/// Where resources are by their own account, wherever the API was asked.
const LINKS: &str = "https://www.googleapis.com/compute/v1";

/// A machine.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) address: IpAddr,
    pub(super) mac: String,
    pub(super) can_ip_forward: bool,
    pub(super) has_account: bool,
}

impl Instance {
    /// Its service account.
    pub(super) fn account(&self) -> String {
        format!("{}@{PROJECT}.iam.gserviceaccount.com", self.name)
    }

    pub(super) fn resource(&self) -> String {
        format!("projects/{PROJECT}/zones/{ZONE}/instances/{}", self.name)
    }

    pub(super) fn shown(&self) -> Value {
        json!({
            "kind": "compute#instance",
            "id": self.id.to_string(),
            "name": self.name,
            "zone": link(&format!("projects/{PROJECT}/zones/{ZONE}")),
            "selfLink": link(&self.resource()),
            "status": "RUNNING",
            "canIpForward": self.can_ip_forward,
            "networkInterfaces": [{
                "kind": "compute#networkInterface",
                "name": "nic0",
                "network": link(&network()),
                "networkIP": self.address,
            }],
        })
    }
}

/// When the limit of routes is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The call is refused.
    AtOnce,
    /// The operation fails.
    Later,
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `routes.insert`
    pub kind: &'static str,
    /// Who made it.
    pub from: IpAddr,
    /// The status of the answer; 0: there was none, or half of one.
    pub status: u16,
}

/// Everything.
#[derive(Debug)]
pub(super) struct State {
    pub(super) instances: Vec<Instance>,
    pub(super) routes: BTreeMap<String, Value>,
    /// The routes as they were, for reads that lag behind.
    past: Vec<(Instant, BTreeMap<String, Value>)>,
    pub(super) lag: Duration,
    pub(super) operations: Vec<Operation>,
    pub(super) pace: Pace,
    pub(super) limit: usize,
    pub(super) notice: Notice,
    pub(super) page: usize,
    pub(super) tokens: Tokens,
    pub(super) denied: BTreeSet<String>,
    pub(super) faults: Faults,
    pub(super) calls: Vec<Call>,
    last_id: u64,
}

impl State {
    pub(super) fn new(instances: Vec<Instance>) -> Self {
        Self {
            instances,
            routes: BTreeMap::new(),
            past: vec![(Instant::now(), BTreeMap::new())],
            lag: Duration::ZERO,
            operations: Vec::new(),
            pace: Pace::default(),
            limit: 300,
            notice: Notice::Later,
            page: 500,
            tokens: Tokens::default(),
            denied: BTreeSet::new(),
            faults: Faults::default(),
            calls: Vec::new(),
            last_id: 6_000_000_000_000_000_000,
        }
    }

    /// A number that nothing has yet.
    pub(super) fn new_id(&mut self) -> u64 {
        self.last_id += 7_919;
        self.last_id
    }

    /// The machine that a link leads to, complete or not.
    pub(super) fn instance(&self, to: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| resource(to) == instance.resource())
    }

    /// Changes routes; who reads late sees what was before.
    pub(super) fn change<T>(&mut self, change: impl FnOnce(&mut BTreeMap<String, Value>) -> T) -> T {
        let outcome = change(&mut self.routes);
        self.past.push((Instant::now(), self.routes.clone()));
        outcome
    }

    /// The routes that reads see now.
    pub(super) fn seen(&self) -> &BTreeMap<String, Value> {
        let old_enough = |moment: &Instant| moment.elapsed() >= self.lag;
        let seen = self.past.iter().rev().find(|(moment, _)| old_enough(moment)).or(self.past.first());
        seen.map_or(&self.routes, |(_, routes)| routes)
    }

    /// A route by its name or number, as all but reads see it.
    pub(super) fn route(&self, key: &str) -> Option<&Value> {
        by_key(&self.routes, key)
    }

    /// The complete route for what was asked for.
    pub(super) fn completed(&mut self, asked: &Value) -> Value {
        let name = asked["name"].as_str().unwrap_or_default();
        let mut route = asked.clone();
        route["kind"] = "compute#route".into();
        route["id"] = self.new_id().to_string().into();
        route["creationTimestamp"] = moment::written(SystemTime::now()).into();
        route["selfLink"] = link(&format!("projects/{PROJECT}/global/routes/{name}")).into();
        route["routeType"] = "STATIC".into();
        for place in ["network", "nextHopInstance"] {
            if let Some(text) = asked[place].as_str() {
                route[place] = link(&resource(text)).into();
            }
        }
        if route["priority"].is_null() {
            route["priority"] = 1000.into();
        }
        let hop = asked["nextHopInstance"].as_str().and_then(|hop| self.instance(hop));
        if hop.is_some_and(|instance| !instance.can_ip_forward) {
            route["warnings"] = json!([{
                "code": "NEXT_HOP_CANNOT_IP_FORWARD",
                "message": format!("Next hop instance '{}' cannot forward ip traffic.", route["nextHopInstance"].as_str().unwrap_or_default()),
            }]);
        }
        route
    }

    /// What is wrong with a route that is to be made.
    pub(super) fn validate(&self, asked: &Value) -> Result<(), Refusal> {
        let text = |field: &str| asked[field].as_str().unwrap_or_default();
        for field in ["name", "network", "destRange"] {
            if text(field).is_empty() {
                return Err(Refusal::required(&format!("resource.{field}")));
            }
        }
        if !is_name(text("name")) {
            let why = "Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'";
            return Err(Refusal::invalid("resource.name", text("name"), why));
        }
        let range: Option<ipnet::IpNet> = text("destRange").parse().ok();
        if range.is_none_or(|range| range.trunc() != range) {
            let why = "Must be a CIDR address range.";
            return Err(Refusal::invalid("resource.destRange", text("destRange"), why));
        }
        if resource(text("network")) != network() {
            return Err(Refusal::not_found(&resource(text("network"))));
        }
        let hops = ["nextHopInstance", "nextHopIp", "nextHopGateway", "nextHopIlb", "nextHopVpnTunnel"];
        if hops.iter().filter(|hop| !text(hop).is_empty()).count() != 1 {
            return Err(Refusal::invalid("resource", "", "Exactly one next hop must be specified."));
        }
        if !text("nextHopInstance").is_empty() && self.instance(text("nextHopInstance")).is_none() {
            return Err(Refusal::not_found(&resource(text("nextHopInstance"))));
        }
        Ok(())
    }
}

/// A route by its name or number.
pub(super) fn by_key<'a>(routes: &'a BTreeMap<String, Value>, key: &str) -> Option<&'a Value> {
    routes.get(key).or_else(|| routes.values().find(|route| route["id"] == key))
}

/// The network that all machines are in.
pub(super) fn network() -> String {
    format!("projects/{PROJECT}/global/networks/{NETWORK}")
}

/// The complete link to a resource.
pub(super) fn link(resource: &str) -> String {
    format!("{LINKS}/{resource}")
}

/// What a link leads to: `projects/…`.
fn resource(link: &str) -> String {
    let path = link.find("projects/").map_or(link, |begin| &link[begin..]);
    let is_whole = path.starts_with("projects/");
    if is_whole { path.to_owned() } else { format!("projects/{PROJECT}/{path}") }
}

/// RFC 1035's label.
pub(super) fn is_name(text: &str) -> bool {
    let letters = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let begins = text.starts_with(|letter: char| letter.is_ascii_lowercase());
    letters && begins && !text.ends_with('-') && text.len() <= 63
}
