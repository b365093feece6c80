//! A plugin that is tried on made-up nodes, with leases of nodes of its own kind: what those publish, the plugin itself has said.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use flannel_model::lease::{Attributes, Lease};
use flannel_model::ledger::PeerId;
use flannel_plugin_host::{Artifact, Description, DirState, Limits, NodeInfo, PeerChange, Policy, WASI};

use super::desired::Desired;
use super::leases::LeasesFile;
use super::node::{Families, SampleNode};
use super::session::{Session, StartError};
use super::wanted::Wanted;
use super::{peers, run};

/// So many nodes publish something of their own; what others publish repeats it.
const PUBLISHERS: u16 = 16;
/// Leases of the example that is shown.
const EXAMPLE: u16 = 3;

/// A plugin that starts.
pub(crate) struct Subject<'a> {
    /// The plugin.
    pub artifact: &'a Artifact,
    /// The network config's `Backend` object.
    pub backend: String,
    /// What the plugin says of itself.
    pub described: Description,
    /// The families for which it is checked most.
    pub families: Families,
    /// What is known of all nodes besides their addresses.
    about: Arc<NodeInfo>,
    /// What nodes of its own kind publish.
    published: Vec<Attributes>,
    /// Calls of the long run, if somebody has said how many.
    pub calls: Option<u32>,
}

impl<'a> Subject<'a> {
    /// Starts a plugin for the first time. The error is why that cannot be done.
    pub(crate) fn new(artifact: &'a Artifact, wanted: &Wanted) -> Result<Self, String> {
        let described = describe(artifact)?;
        let backend = wanted.of(artifact)?;
        let mut refused = None;
        for families in [Families::Ipv4, Families::Ipv6, Families::Dual] {
            let about = Arc::clone(&wanted.about);
            match Session::start(artifact, &SampleNode::own(families).told(&about), &backend) {
                Ok(_) => {
                    let published = published(artifact, &backend, families, &about)?;
                    let calls = wanted.calls;
                    return Ok(Self { artifact, backend, described, families, about, published, calls });
                }
                Err(error) if error.in_words() => refused = refused.or(Some(error)),
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(refused.map_or_else(String::new, |error| error.to_string()))
    }

    /// Whether it asks clouds or endpoints, of which there is none for it here.
    pub(crate) fn asks_clouds(&self) -> bool {
        self.artifact.imports().iter().any(|interface| matches!(interface.as_str(), "cloud" | "http"))
    }

    /// Whether it brings a language's runtime along, which collects garbage when it likes: what does imports WASI.
    pub(crate) fn has_runtime(&self) -> bool {
        self.artifact.imports().iter().any(|interface| interface == WASI)
    }

    /// The node that it is on.
    pub(crate) fn node(&self) -> SampleNode {
        SampleNode::own(self.families).told(&self.about)
    }

    /// Starts a fresh instance.
    pub(crate) fn start(&self) -> Result<Session, String> {
        self.start_on(&self.node(), &self.backend).map_err(|error| error.to_string())
    }

    /// Starts a fresh instance somewhere else.
    pub(crate) fn start_on(&self, node: &SampleNode, backend: &str) -> Result<Session, StartError> {
        Session::start(self.artifact, node, backend)
    }

    /// The lease of node `number`.
    pub(crate) fn lease(&self, number: u16) -> Lease {
        let (v4, v6) = peers::addresses(number);
        let mut attributes = self.published[usize::from(number) % self.published.len()].clone();
        attributes.public_ip = self.families.v4().then(|| v4.into());
        attributes.public_ipv6 = self.families.v6().then(|| v6.into());
        Lease { subnets: peers::subnets(number, self.families), attributes, expires: None }
    }

    /// The leases of some nodes, all new.
    pub(crate) fn puts(&self, numbers: RangeInclusive<u16>) -> Vec<PeerChange> {
        numbers.map(|number| put(number.into(), self.lease(number))).collect()
    }

    /// The same plugin in another cluster; the error is why that cannot be checked.
    pub(crate) fn with(&self, families: Families) -> Result<Self, StartError> {
        let about = Arc::clone(&self.about);
        self.start_on(&SampleNode::own(families).told(&about), &self.backend)?;
        let published = published(self.artifact, &self.backend, families, &about);
        let (described, backend) = (self.described.clone(), self.backend.clone());
        let published = published.map_err(StartError::Setup)?;
        Ok(Self {
            artifact: self.artifact,
            backend,
            described,
            families,
            about,
            published,
            calls: self.calls,
        })
    }

    /// What the plugin wants to have for a few leases, of both families if it takes them.
    pub(crate) fn example(&self) -> Result<Desired, String> {
        let both = self.with(Families::Dual);
        let subject = both.as_ref().unwrap_or(self);
        let node = subject.node();
        let leases: Vec<Lease> = (1..=EXAMPLE).map(|number| subject.lease(number)).collect();
        Ok(run::desired(&mut subject.start()?, &node, &leases))
    }

    /// What the plugin wants to have for the leases of a file.
    pub(crate) fn desired(&self, file: &LeasesFile) -> Result<Desired, String> {
        let node = file.node.clone().told(&self.about);
        let mut session = self.start_on(&node, &self.backend).map_err(|error| error.to_string())?;
        Ok(run::desired(&mut session, &node, &file.leases))
    }
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, with {}", self.described.name, self.described.version, self.backend)
    }
}

/// Asks a fresh instance who it is.
pub(crate) fn describe(artifact: &Artifact) -> Result<Description, String> {
    let directory = tempfile::tempdir().map_err(|error| format!("no directory for the state: {error}"))?;
    let state = Arc::new(DirState::open(directory.path()));
    let environment = SampleNode::own(Families::Ipv4).environment("{}")?;
    let described = Policy::describe(artifact, environment, Limits::default(), state);
    described.map(|(described, _)| described).map_err(|error| error.to_string())
}

/// What a node publishes is for the plugin to say: it is asked on behalf of a few peers.
fn published(
    artifact: &Artifact,
    backend: &str,
    families: Families,
    about: &Arc<NodeInfo>,
) -> Result<Vec<Attributes>, String> {
    let of = |number: u16| {
        let node = SampleNode::peer(number, families).told(about);
        let session = Session::start(artifact, &node, backend);
        session.map(|session| node.lease(&session.registered).attributes).map_err(|error| error.to_string())
    };
    (0..PUBLISHERS).map(|number| of(if number == 0 { PUBLISHERS } else { number })).collect()
}

/// A peer has a lease.
pub(crate) fn put(id: u64, lease: Lease) -> PeerChange {
    PeerChange::Put(PeerId(id), Arc::new(lease))
}
