//! A little cloud in a closure.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use flannel_backend::cloud::{
    Error as CloudError, Instance, Method, NetworkInterface, Operation, Provider, Request, Response,
};
use flannel_backend::serde_json::{self, Value, json};
use flannel_backend::testing::{Bench, Host, samples, with};

use crate::GcePolicy;

const LINKS: &str = "https://www.googleapis.com/compute/v1";

/// A link to something of the project.
pub fn link(path: &str) -> String {
    format!("{LINKS}/projects/p/{path}")
}

/// What there is, and what was asked.
#[derive(Default)]
pub struct Cloud {
    pub routes: BTreeMap<String, Value>,
    pub instance: Value,
    pub operations: BTreeMap<String, Value>,
    /// What is done when an operation ends.
    pub pending: VecDeque<(String, Pending)>,
    /// Operations do not end.
    pub held: bool,
    /// Answers that come first, to calls that begin so.
    pub scripted: VecDeque<(&'static str, Result<Response, CloudError>)>,
    /// Routes that reads do not show yet.
    pub hidden: Vec<String>,
    /// How many routes a page has.
    pub page: usize,
    pub asked: Vec<String>,
    numbers: u64,
}

pub enum Pending {
    Insert(Value),
    Delete(String),
}

pub type Shared = Rc<RefCell<Cloud>>;

/// A policy on a node whose cloud this is, with its lease for 10.5.72.0/24.
pub fn bench(cloud: &Shared) -> Bench<GcePolicy> {
    let state = with(|host| std::mem::take(&mut host.state));
    let interface = NetworkInterface {
        addresses: vec![[192, 168, 0, 100].into()],
        network: "projects/12/networks/lab".to_owned(),
        ..NetworkInterface::default()
    };
    let instance = Instance {
        id: "4".to_owned(),
        name: "node1".to_owned(),
        zone: "zone-a".to_owned(),
        account: "p".to_owned(),
        interfaces: vec![interface],
        ..Instance::default()
    };
    let shared = Rc::clone(cloud);
    let host = Host {
        instance: Ok(instance),
        cloud: Some(Box::new(move |request| shared.borrow_mut().answer(request))),
        state,
        ..Host::default()
    };
    let mut bench = Bench::register_on(host, &samples::node(true, false), "{}").expect("registers");
    bench.lease_acquired(&samples::own()).expect("leased");
    bench
}

/// A route of the cloud to a subnet of 10.5.0.0/16, by way of an instance.
pub fn route(number: u8, instance: &str) -> Value {
    json!({
        "name": format!("flannel-10-5-{number}-0-24"),
        "destRange": format!("10.5.{number}.0/24"),
        "network": link("global/networks/lab"),
        "nextHopInstance": link(&format!("zones/zone-a/instances/{instance}")),
        "priority": 1000,
    })
}

/// A refusal as the cloud has it.
pub fn refusal(status: u16, reason: &str, message: &str) -> Response {
    let errors = json!([{ "domain": "global", "reason": reason, "message": message }]);
    let body = json!({ "error": { "code": status, "message": message, "errors": errors } });
    Response { status, body: body.to_string(), ..Response::default() }
}

impl Cloud {
    pub fn new() -> Shared {
        with(|host| host.state.clear());
        let interface = |network: &str, address: &str| json!({ "network": link(&format!("global/networks/{network}")), "networkIP": address });
        Rc::new(RefCell::new(Self {
            instance: json!({
                "selfLink": link("zones/zone-a/instances/node1"),
                "canIpForward": true,
                "networkInterfaces": [interface("other", "10.0.0.9"), interface("lab", "192.168.0.100")],
            }),
            page: 500,
            ..Self::default()
        }))
    }

    pub fn put(&mut self, mut route: Value) {
        self.numbers += 1;
        route["id"] = self.numbers.to_string().into();
        self.routes.insert(route["name"].as_str().expect("a name").to_owned(), route);
    }

    /// What was asked since the last time.
    pub fn taken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.asked)
    }

    /// Those of them that change something.
    pub fn mutations(&mut self) -> Vec<String> {
        let changes = |asked: &String| asked.starts_with("POST") || asked.starts_with("DELETE");
        self.taken().into_iter().filter(changes).collect()
    }

    fn answer(&mut self, request: &Request) -> Result<Response, CloudError> {
        let Operation::Rest { method, path, query, body } = &request.operation else {
            panic!("an action: {request:?}");
        };
        assert_eq!(
            (request.provider, request.service.as_str(), request.version.as_str(), request.idempotent),
            (Provider::Google, "compute", "v1", true)
        );
        let path = path.strip_prefix("projects/p/").expect("the project");
        let name = match method {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Delete => "DELETE",
            other => panic!("{other:?}"),
        };
        let asked = format!("{name} {path}");
        self.asked.push(asked.clone());
        let parameter =
            |name: &str| query.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        if *method != Method::Get {
            assert_eq!(parameter("requestId").map(|id| id.len()), Some(36));
        }
        if let Some((begin, _)) = self.scripted.front()
            && asked.starts_with(begin)
        {
            let (_, answer) = self.scripted.pop_front().expect("the first");
            return answer;
        }
        let segments: Vec<&str> = path.split('/').collect();
        let body = body.as_deref().map(|text| serde_json::from_str(text).expect("JSON"));
        let found = match (method, &segments[..]) {
            (Method::Get, ["zones", "zone-a", "instances", "node1"]) => Some(self.instance.clone()),
            (Method::Get, ["global", "operations", name]) => Some(self.advance(name)),
            (Method::Get, ["global", "routes"]) => {
                Some(self.list(parameter("filter").as_deref(), parameter("pageToken").as_deref()))
            }
            (Method::Get, ["global", "routes", name]) => {
                self.routes.get(*name).filter(|_| !self.hidden.iter().any(|hidden| hidden == name)).cloned()
            }
            (Method::Post, ["global", "routes"]) => {
                let route: Value = body.expect("a body");
                let name = route["name"].as_str().expect("a name").to_owned();
                if self.routes.contains_key(&name) {
                    return Ok(refusal(409, "alreadyExists", "it already exists"));
                }
                Some(self.begin(Pending::Insert(route)))
            }
            (Method::Delete, ["global", "routes", id]) => {
                let named =
                    self.routes.iter().find(|(_, route)| route["id"] == *id).map(|(name, _)| name.clone());
                named.map(|name| self.begin(Pending::Delete(name)))
            }
            _ => None,
        };
        let found = found.filter(|found| !found.is_null());
        let missing = || refusal(404, "notFound", "The resource was not found");
        let good = |found: Value| Response { status: 200, body: found.to_string(), ..Response::default() };
        Ok(found.map_or_else(missing, good))
    }

    fn begin(&mut self, pending: Pending) -> Value {
        let name = format!("operation-{}", self.operations.len() + 1);
        let operation = json!({ "name": name, "status": "PENDING" });
        self.operations.insert(name.clone(), operation.clone());
        self.pending.push_back((name, pending));
        operation
    }

    fn advance(&mut self, name: &str) -> Value {
        if !self.held && self.pending.front().is_some_and(|(first, _)| first == name) {
            let (_, pending) = self.pending.pop_front().expect("the first");
            let operation = self.operations.get_mut(name).expect("known");
            operation["status"] = "DONE".into();
            if operation["error"].is_null() {
                match pending {
                    Pending::Insert(route) => self.put(route),
                    Pending::Delete(name) => drop(self.routes.remove(&name)),
                }
            }
        }
        self.operations.get(name).cloned().unwrap_or_default()
    }

    fn list(&self, filter: Option<&str>, token: Option<&str>) -> Value {
        let hop = filter.map(|filter| {
            assert_eq!(filter, r#"nextHopInstance eq ".*/zones/zone-a/instances/node1""#);
            Value::from(link("zones/zone-a/instances/node1"))
        });
        let fits = |route: &&Value| hop.as_ref().is_none_or(|hop| route["nextHopInstance"] == *hop);
        let from: usize = token.map_or(0, |token| token.parse().expect("a number"));
        let all: Vec<&Value> = self.routes.values().filter(fits).collect();
        let mut page = json!({});
        if from < all.len() {
            let end = all.len().min(from + self.page);
            page["items"] = all[from..end].iter().map(|route| (*route).clone()).collect();
            if end < all.len() {
                page["nextPageToken"] = end.to_string().into();
            }
        }
        page
    }
}
