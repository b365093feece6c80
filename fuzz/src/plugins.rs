//! The built-in plugins, each in its sandbox on a made-up node.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use flannel_model::lease::{Attributes, Lease, Subnets};
use flannel_model::ledger::PeerId;
use flannel_plugin_devkit::{Families, SampleNode};
use flannel_plugin_host::{Cause, Compiler, DirState, Limits, Loader, PeerChange, PluginError, Policy};
use tempfile::TempDir;

/// Those that read leases' values. (A cloud's rows are of other nodes' addresses alone.)
const NAMES: [&str; 8] = ["vxlan", "host-gw", "alloc", "ipip", "wireguard", "udp", "gce", "ali-vpc"];

/// Plugins that run.
pub struct Plugins {
    policies: Vec<(&'static str, Policy)>,
    _directory: TempDir,
}

thread_local! {
    static PLUGINS: RefCell<Option<Plugins>> = const { RefCell::new(None) };
}

impl Plugins {
    /// Does something with those of this thread, which are started first if they are not there.
    pub fn with(work: impl FnOnce(&mut Self)) {
        PLUGINS.with_borrow_mut(|plugins| work(plugins.get_or_insert_with(Self::start)));
    }

    fn start() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let policies = NAMES.map(|name| (name, start(name, directory.path())));
        Self { policies: policies.into(), _directory: directory }
    }

    /// Hands a peer's lease to one of the plugins, and takes it away again. Whatever is in it, the plugin keeps its state.
    pub fn take_lease(&mut self, plugin: usize, mut attributes: Attributes) {
        let count = self.policies.len();
        let (name, policy) = &mut self.policies[plugin % count];
        attributes.backend_type = (*name).to_owned();
        let subnets = Subnets { v4: "10.200.1.0/24".parse().ok(), v6: "fc00:0:0:2001::/64".parse().ok() };
        let lease = Arc::new(Lease { subnets, attributes, expires: None });
        let id = PeerId(1);
        for changes in [vec![PeerChange::Put(id, lease)], vec![PeerChange::Removed(id)]] {
            let applied = policy.apply(&changes);
            policy.take_records();
            for (_, error) in &applied.rejected {
                crate::is_one_line(error);
            }
            for failure in &applied.failures {
                assert!(in_words(failure), "{name}: {failure}");
            }
        }
    }
}

fn in_words(error: &PluginError) -> bool {
    matches!(error.cause, Cause::Answered(_) | Cause::Refused(_))
}

fn start(name: &str, directory: &Path) -> Policy {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").join(format!("{name}.wasm"));
    let artifact = Loader::new(&directory.join("cache"), directory, Compiler::Here)
        .load_here(&file)
        .expect("`cargo xtask plugins` makes it");
    let families = match name {
        "ipip" | "gce" => Families::Ipv4,
        _ => Families::Dual,
    };
    let node = SampleNode::own(families);
    let environment = node.environment(&format!("{{\"Type\":\"{name}\"}}")).expect("a config");
    let state = Arc::new(DirState::open(directory));
    let (mut policy, registered) =
        Policy::start(&artifact, environment, Limits::default(), state).expect("it starts");
    policy.lease_acquired(&node.lease(&registered)).expect("its lease");
    policy
}
