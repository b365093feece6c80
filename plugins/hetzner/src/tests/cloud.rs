//! A little cloud in a closure.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use flannel_backend::http::{Error as HttpError, Method, Request, Response};
use flannel_backend::serde_json::{self, Value, json};
use flannel_backend::testing::{Bench, Host, samples};

use crate::HetznerPolicy;

/// What there is, and what was asked.
pub struct Cloud {
    pub range: &'static str,
    /// Destination and gateway.
    pub routes: Vec<(String, String)>,
    pub servers: Vec<Value>,
    /// How many servers a page has.
    pub page: usize,
    /// Actions go on for ever.
    pub held: bool,
    /// What is done when an action ends; none: it fails.
    pending: Option<(bool, (String, String))>,
    /// Actions fail with this code.
    pub fails: Option<&'static str>,
    /// Answers that come first, to calls that begin so.
    pub scripted: VecDeque<(&'static str, Result<Response, HttpError>)>,
    pub asked: Vec<String>,
}

pub type Shared = Rc<RefCell<Cloud>>;

impl Cloud {
    pub fn new() -> Shared {
        Rc::new(RefCell::new(Self {
            range: "192.168.0.0/16",
            routes: Vec::new(),
            servers: Vec::new(),
            page: 50,
            held: false,
            pending: None,
            fails: None,
            scripted: VecDeque::new(),
            asked: Vec::new(),
        }))
    }

    pub fn put(&mut self, destination: &str, gateway: &str) {
        self.routes.push((destination.to_owned(), gateway.to_owned()));
    }

    pub fn taken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.asked)
    }

    pub fn mutations(&self) -> Vec<String> {
        self.asked.iter().filter(|call| call.starts_with("POST")).cloned().collect()
    }

    fn answer(&mut self, request: &Request) -> Result<Response, HttpError> {
        assert_eq!(request.endpoint, "hetzner");
        assert!(request.headers.is_empty());
        let method = if request.method == Method::Post { "POST" } else { "GET" };
        let query: Vec<String> =
            request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let body = request.body.as_deref().map(|body| format!(" {body}")).unwrap_or_default();
        let call = format!("{method} {}{query}", request.path);
        self.asked.push(format!("{call}{body}"));
        // What changes something is not sent twice, and what reads is.
        assert_eq!(request.idempotent, method == "GET", "{call}");
        if let Some(at) = self.scripted.iter().position(|(begin, _)| call.starts_with(begin))
            && let Some((_, scripted)) = self.scripted.remove(at)
        {
            return scripted;
        }
        let body: Value =
            request.body.as_deref().map_or(Value::Null, |body| serde_json::from_str(body).expect("JSON"));
        let text = |member: &str| body[member].as_str().unwrap_or_default().to_owned();
        let route = (text("destination"), text("gateway"));
        Ok(match request.path.as_str() {
            "/networks/4711" => {
                let routes = self.routes.iter().map(|(to, by)| json!({ "destination": to, "gateway": by }));
                let routes: Vec<Value> = routes.collect();
                ok(&json!({ "network": { "id": 4711, "ip_range": self.range, "routes": routes } }))
            }
            "/networks/4711/actions/add_route" => self.begin(true, route),
            "/networks/4711/actions/delete_route" => self.begin(false, route),
            "/actions/7" => {
                if !self.held {
                    self.end();
                }
                let error = self.fails.map(|code| json!({ "code": code, "message": "Action failed" }));
                let status = match (self.held, self.fails) {
                    (true, _) => "running",
                    (false, Some(_)) => "error",
                    (false, None) => "success",
                };
                ok(&json!({ "action": { "id": 7, "status": status, "error": error } }))
            }
            "/servers" => {
                let number = |name: &str| {
                    let found = request.query.iter().find(|(known, _)| known == name);
                    found.and_then(|(_, value)| value.parse::<usize>().ok()).expect("a number")
                };
                let (page, size) = (number("page"), self.page);
                let shown: Vec<&Value> = self.servers.iter().skip((page - 1) * size).take(size).collect();
                let next = (page * size < self.servers.len()).then_some(page + 1);
                ok(&json!({ "servers": shown, "meta": { "pagination": { "next_page": next } } }))
            }
            _ => refused(404, "not_found", "network not found"),
        })
    }

    fn begin(&mut self, adds: bool, route: (String, String)) -> Response {
        self.pending = Some((adds, route));
        let action = json!({ "action": { "id": 7, "status": "running", "error": null } });
        Response { status: 201, body: action.to_string(), ..Response::default() }
    }

    fn end(&mut self) {
        let Some((adds, route)) = self.pending.take() else { return };
        if self.fails.is_some() {
            return;
        }
        if adds {
            self.routes.push(route);
        } else {
            self.routes.retain(|known| *known != route);
        }
    }
}

pub fn ok(body: &Value) -> Response {
    Response { status: 200, body: body.to_string(), ..Response::default() }
}

pub fn refused(status: u16, code: &str, message: &str) -> Response {
    let body = json!({ "error": { "code": code, "message": message } }).to_string();
    Response { status, body, ..Response::default() }
}

/// A policy on a node of this cloud, with its lease for 10.5.72.0/24.
pub fn bench(cloud: &Shared) -> Bench<HetznerPolicy> {
    let shared = Rc::clone(cloud);
    let host = Host {
        endpoints: Some(Box::new(move |request| shared.borrow_mut().answer(request))),
        ..Host::default()
    };
    let config = r#"{"Type":"hetzner","NetworkID":4711}"#;
    let mut bench = Bench::register_on(host, &samples::node(true, false), config).expect("registered");
    bench.lease_acquired(&samples::own()).expect("taken");
    bench
}
