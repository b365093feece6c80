//! A plugin that runs commands: its option `Run` says which, one after the other, each an object with a `name`, an `environment` as a list of
//! pairs, and an `input`. With `When` it says in which call. What comes of the last is the call's error, so that it can be seen; with
//! `CarryOn` nobody looks at it.

use std::time::Duration;

use flannel_backend::commands;
use flannel_backend::serde_json::{Value, from_value};
use flannel_backend::{Config, Lease, Node, PeerId, Policy, Registration, Retire};

struct Commander {
    runs: Vec<Value>,
    when: String,
    carry_on: bool,
}

impl Policy for Commander {
    const NAME: &'static str = "commander";
    const VERSION: &'static str = "0.0.0";
    const BACKEND_TYPES: &'static [&'static str] = &["commander"];

    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        let policy = Self {
            runs: config.get("Run").and_then(Value::as_array).cloned().unwrap_or_default(),
            when: config.text("When")?.unwrap_or_default().to_owned(),
            carry_on: config.boolean("CarryOn")?.unwrap_or_default(),
        };
        policy.run("register")?;
        Ok((policy, Registration { mtu: node.external.mtu, ..Registration::default() }))
    }

    fn lease_acquired(&mut self, _own: &Lease) -> Result<(), String> {
        self.run("lease-acquired")
    }

    fn put(&mut self, _peer: PeerId, _lease: &Lease) -> Result<(), String> {
        self.run("apply")
    }

    fn tick(&mut self) -> Result<Option<Duration>, String> {
        self.run("tick").map(|()| None)
    }
}

impl Retire for Commander {
    fn retire(&mut self) -> Result<Option<Duration>, String> {
        self.run("retire").map(|()| None)
    }
}

impl Commander {
    fn run(&self, now: &str) -> Result<(), String> {
        if self.when != now {
            return Ok(());
        }
        let mut last = String::new();
        for wish in &self.runs {
            let text = |name: &str| wish[name].as_str().unwrap_or_default();
            let pairs = from_value::<Vec<(String, String)>>(wish["environment"].clone()).unwrap_or_default();
            let environment: Vec<(&str, String)> =
                pairs.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            last = match commands::run(text("name"), &environment, text("input")) {
                Ok(outcome) => format!("{} {:?} {}", outcome.status, outcome.output, outcome.truncated),
                Err(error) => error.to_string(),
            };
        }
        if self.carry_on { Ok(()) } else { Err(last) }
    }
}

flannel_backend::export!(Commander);
flannel_backend::retirement!(Commander);
