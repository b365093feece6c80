//! A node whose commands are a closure: what they have been told, and a kernel's table that can be in the way.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use flannel_backend::commands::{Error, Outcome, Run};
use flannel_backend::testing::{Bench, Host, samples, with};
use flannel_backend::{Lease, Node};

use crate::ExtensionPolicy;

pub const ALL: &str = r#"{"Type":"extension","PreStartupCommand":"p","PostStartupCommand":"s","subnetaddcommand":"a","SubnetRemoveCommand":"r"}"#;

/// What there is.
#[derive(Default)]
pub struct Shell {
    /// Routes by subnet, with where they lead, as `ip route add` makes them.
    pub routes: BTreeMap<String, String>,
    /// What was run: the name, the variables without empty ones, and the input.
    pub ran: Vec<String>,
    /// How a command ends that is not as usual.
    pub ends: BTreeMap<&'static str, Result<Outcome, Error>>,
}

pub type Shared = Rc<RefCell<Shell>>;

impl Shell {
    pub fn taken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.ran)
    }

    fn run(&mut self, run: &Run) -> Result<Outcome, Error> {
        let told = run.environment.iter().filter(|(_, value)| !value.is_empty());
        let name = run.name.trim_end_matches("Command");
        let words =
            std::iter::once(name.to_owned()).chain(told.map(|(name, value)| format!("{name}={value}")));
        let words: Vec<String> = words.collect();
        self.ran.push(format!("{} <{}>", words.join(" "), run.input.escape_debug()));
        if let Some((_, end)) = self.ends.iter().find(|(of, _)| **of == name) {
            return end.clone();
        }
        let value = |name: &str| {
            let found = run.environment.iter().find(|(its, _)| its == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let (subnet, via) = (value("SUBNET"), value("PUBLIC_IP"));
        Ok(match name {
            "PreStartup" => said(0, " \n9e:01 <&>\n\n"),
            "SubnetAdd" if self.routes.contains_key(&subnet) => {
                said(2, "RTNETLINK answers: File exists\n\nsecond line\n")
            }
            "SubnetAdd" => {
                self.routes.insert(subnet, via);
                said(0, "")
            }
            "SubnetRemove" if self.routes.get(&subnet) != Some(&via) => said(2, "No such process"),
            "SubnetRemove" => {
                self.routes.remove(&subnet);
                said(0, "")
            }
            _ => said(0, ""),
        })
    }
}

pub fn said(status: i32, output: &str) -> Outcome {
    Outcome { status, output: output.to_owned(), truncated: false }
}

/// A host with this shell, and this durable store.
pub fn host(shell: &Shared, state: BTreeMap<String, Vec<u8>>) -> Host {
    let shared = Rc::clone(shell);
    Host { commands: Some(Box::new(move |run| shared.borrow_mut().run(run))), state, ..Host::default() }
}

pub fn started(shell: &Shared, config: &str) -> Bench<ExtensionPolicy> {
    start_on(shell, &samples::node(true, false), config, BTreeMap::new())
}

pub fn start_on(
    shell: &Shared,
    node: &Node,
    config: &str,
    state: BTreeMap<String, Vec<u8>>,
) -> Bench<ExtensionPolicy> {
    let mut bench = Bench::register_on(host(shell, state), node, config).expect("registered");
    bench.lease_acquired(&own()).expect("taken");
    bench
}

/// The daemon ends, and begins again with what it has remembered.
pub fn restarted(shell: &Shared, config: &str) -> Bench<ExtensionPolicy> {
    let state = with(|host| std::mem::take(&mut host.state));
    let bench = start_on(shell, &samples::node(true, false), config, state);
    shell.borrow_mut().taken();
    bench
}

pub fn own() -> Lease {
    Lease { ipv6_subnet: None, ..samples::own() }
}

/// A peer with IPv4 alone.
pub fn peer() -> Lease {
    Lease { ipv6_subnet: None, public_ipv6: None, ..samples::peer("extension") }
}

pub fn with_data(data: &str) -> Lease {
    Lease { backend_data: Some(data.to_owned()), ..peer() }
}

pub fn at(last: u8) -> Lease {
    Lease { public_ipv4: Some([192, 168, 0, last].into()), ..peer() }
}
