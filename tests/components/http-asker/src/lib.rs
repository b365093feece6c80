//! A plugin that asks endpoints: its option `Requests` says what for, one after the other, each an object with the contract's names. A tick
//! fails with the last answer. With `When` it asks in another call.

use std::time::Duration;

use flannel_backend::http::{self, Method, Request};
use flannel_backend::serde_json::{Value, from_value};
use flannel_backend::{Config, Lease, Node, PeerId, Policy, Registration};

struct HttpAsker {
    requests: Vec<Value>,
    when: String,
}

impl Policy for HttpAsker {
    const NAME: &'static str = "http-asker";
    const VERSION: &'static str = "0.0.0";
    const BACKEND_TYPES: &'static [&'static str] = &["http-asker"];

    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        let requests = config.get("Requests").and_then(Value::as_array).cloned().unwrap_or_default();
        let policy = Self { requests, when: config.text("When")?.unwrap_or("tick").to_owned() };
        if policy.when == "register" {
            policy.ask()?;
        }
        Ok((policy, Registration { mtu: node.external.mtu, ..Registration::default() }))
    }

    fn put(&mut self, _peer: PeerId, _lease: &Lease) -> Result<(), String> {
        Ok(())
    }

    fn tick(&mut self) -> Result<Option<Duration>, String> {
        match self.when.as_str() {
            "tick" => Err(self.ask()?),
            // What is refused dooms the call, whatever becomes of it.
            "carry-on" => {
                let _ = self.ask();
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}

impl HttpAsker {
    /// Sends all requests; answers with the last answer.
    fn ask(&self) -> Result<String, String> {
        let mut last = String::new();
        for wish in &self.requests {
            let answer = http::send(&request(wish))?;
            last = format!("{} {:?} {}", answer.status, answer.headers, answer.body);
        }
        Ok(last)
    }
}

fn request(wish: &Value) -> Request {
    let text = |name: &str| wish[name].as_str().unwrap_or_default();
    let pairs = |name: &str| from_value::<Vec<(String, String)>>(wish[name].clone()).unwrap_or_default();
    let method = match text("method") {
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        _ => Method::Get,
    };
    let mut request = Request::new(text("endpoint"), method, text("path"));
    request.query = pairs("query");
    request.headers = pairs("headers");
    request.body = wish["body"].as_str().map(str::to_owned);
    request.idempotent = wish["idempotent"] == true;
    request
}

flannel_backend::export!(HttpAsker);
