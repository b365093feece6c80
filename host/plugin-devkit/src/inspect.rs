//! What a plugin is and asks for: `flanneld plugin inspect`.

use std::fmt;
use std::sync::Arc;

use flannel_cloud::Provider;
use flannel_plugin_host::Need;
use flannel_plugin_host::{Artifact, DirState, Grants, Limits, Policy, needs_grant};
use flannel_plugin_host::{CONTRACT, INTERFACES, WASI};
use flannel_plugin_host::{EndpointGrants, GrantRequest};
use serde::Serialize;

use super::node::{Families, SampleNode};
use super::permissions::cloud_policy;

/// What a plugin says of itself, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// A file, or that it is built in.
    pub source: String,
    /// As it calls itself.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Values of `Backend.Type` that it is for.
    pub backend_types: Vec<String>,
    /// The contract that it was built against.
    pub contract: String,
    /// The interfaces that it imports.
    pub imports: Vec<Import>,
    /// The operations of clouds that it asks for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<CloudOperation>,
    /// The endpoints that it is granted; which it asks for is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// What an operator attaches to the machines so that they may do that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<CloudPolicy>,
    /// What it is not granted, as grants have it.
    pub missing: Vec<String>,
    /// Why a daemon with these grants would not load it, and what to do about that.
    #[serde(skip)]
    pub refusal: Option<String>,
    /// Bytes of the component.
    pub size: usize,
    /// SHA-256 of the component, in hexadecimal digits.
    pub digest: String,
    /// Whose signatures were verified, of those whose keys are in the file with grants.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<String>,
    /// Why nobody's was, if there are keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsigned: Option<String>,
}

/// An interface that a plugin imports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Import {
    /// Its name, without package and version.
    pub interface: String,
    /// What that lets the plugin do.
    pub allows: String,
    /// Whether it is granted; none: it needs no grant.
    pub granted: Option<bool>,
}

/// An operation of a cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CloudOperation {
    /// As grants have it.
    pub operation: String,
    /// What the cloud calls the permissions for it.
    pub permissions: Vec<String>,
    /// Whether it is granted.
    pub granted: bool,
}

/// What a cloud has to allow a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CloudPolicy {
    /// Whose cloud.
    pub provider: String,
    /// In the cloud's own form: an IAM policy (AWS), a custom role (Google), a RAM policy (Alibaba), a CAM policy (Tencent).
    pub policy: String,
}

/// Looks at a plugin, and asks it who it is, in a sandbox without a node. The error is for an operator.
pub fn inspect(artifact: &Artifact, grants: &Grants) -> Result<Inspection, String> {
    let directory = tempfile::tempdir().map_err(|error| format!("no directory for the state: {error}"))?;
    let state = Arc::new(DirState::open(directory.path()));
    let environment = SampleNode::own(Families::Ipv4).environment("{}")?;
    let (described, needs) = Policy::describe(artifact, environment, Limits::default(), state)
        .map_err(|error| error.to_string())?;
    let mut imports = artifact.imports();
    imports
        .sort_by_key(|name| INTERFACES.iter().position(|interface| interface == name).unwrap_or(usize::MAX));
    let asker = GrantRequest {
        digest: artifact.digest(),
        name: &described.name,
        provenance: artifact.provenance(),
        imports: &imports,
        needs: &needs,
    };
    let granted = grants.of(&asker).map_err(|error| error.to_string())?;
    let missing = granted.missing(&asker);
    let refusal = grants.check(&asker).err().map(|error| error.to_string());
    let policies = Provider::ALL.into_iter().filter_map(|provider| {
        Some(CloudPolicy { provider: provider.name().to_owned(), policy: cloud_policy(&needs, provider)? })
    });
    let policies = policies.collect();
    let operation = |need: Need| CloudOperation {
        granted: granted.has(&need),
        operation: need.pattern.to_string(),
        permissions: need.permissions,
    };
    let operations = needs.iter().cloned().map(operation).collect();
    let endpoints = match &granted.endpoints {
        EndpointGrants::Only(names) => names.iter().cloned().collect(),
        EndpointGrants::Every => Vec::new(),
    };
    let import = |interface: String| Import {
        allows: allows(&interface).to_owned(),
        granted: needs_grant(&interface).then(|| granted.interfaces.contains(&interface)),
        interface,
    };
    Ok(Inspection {
        source: artifact.source().to_string(),
        name: described.name,
        version: described.version,
        backend_types: described.backend_types,
        contract: format!("flannel:backend@{CONTRACT}"),
        imports: imports.iter().cloned().map(import).collect(),
        operations,
        endpoints,
        policies,
        missing,
        refusal,
        size: artifact.size(),
        digest: artifact.digest().to_owned(),
        signers: artifact.provenance().signers.iter().map(ToString::to_string).collect(),
        unsigned: artifact.provenance().unsigned.clone(),
    })
}

/// What an interface lets a plugin do, with the host's checks.
fn allows(interface: &str) -> &'static str {
    match interface {
        "types" => "nothing: words that both sides use",
        "links" => {
            "VXLAN and IPIP devices named flannel…, their addresses, and routes for the cluster network over them"
        }
        "routes" => "routes to a peer's own subnet, over its own devices or the external interface",
        "neighbours" => "neighbour entries on its own devices, for addresses in a peer's subnet",
        "fdb" => "FDB entries on its own devices, towards addresses that a peer has published",
        "wireguard" => {
            "WireGuard devices named flannel…, and peers with the subnets that their leases have; no private key"
        }
        "ipsec" => {
            "XFRM interfaces named flannel…, and IPsec's policies and states for the subnets that peers' leases have; no secret key"
        }
        "udp-tunnel" => "a TUN device whose packets the daemon sends to addresses that peers have published",
        "cloud" => {
            "what the cloud says of this machine, and requests to its API, signed by the host, of the operations below"
        }
        "http" => {
            "requests that the file of --http-endpoints allows, with the credentials in there, to the endpoints that are granted as http:NAME"
        }
        "node-info" => {
            "the node's name, its labels in Kubernetes, and what its operator gives it with --plugin-option"
        }
        "metrics" => "64 series of its own among the daemon's metrics, as flanneld_policy_…, with its name",
        "own-lease" => {
            "what this node publishes in its lease, now and then in place of what it has registered"
        }
        "peers" => "to be told again of leases that it has been told of, each once a second",
        "policy-routing" => {
            "routes to a peer's own subnet with metrics, several next hops and tables of its own, also over the interfaces of --uplink, by segments (SRv6) through nodes of the cluster, and with MPLS labels; rules for the cluster network that lead to these tables"
        }
        "probe" => {
            "echo requests to addresses that peers have published, and to those in their subnets, 100 a second; what comes of them"
        }
        "tunnel-links" => {
            "GRE, Geneve, IP in IP and VLAN devices named flannel…, and the UDP ports of their encapsulation; reached by nodes alone"
        }
        "commands" => {
            "the commands in the network config, options named …Command, by a shell and with the daemon's rights; no others"
        }
        "log" => "lines in the daemon's log, with its name, 100 a call",
        "clock" => "the time",
        "state" => "a few small values that outlive it, in a directory of its own",
        WASI => {
            "an empty world: no files, sockets, name look-ups, environment or arguments; the time, randomness, and output into the log"
        }
        _ => "something that this flanneld does not know",
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |label: &str, text: &str| writeln!(f, "{label:14}{text}");
        row("plugin", &format!("{} {}", self.name, self.version))?;
        row("source", &self.source)?;
        row("backend types", &self.backend_types.join(", "))?;
        row("contract", &self.contract)?;
        row("size", &format!("{} bytes", self.size))?;
        row("sha256", &self.digest)?;
        if !self.signers.is_empty() {
            row("signed by", &self.signers.join(", "))?;
        }
        if let Some(unsigned) = &self.unsigned {
            row("signed by", &format!("nobody known: {unsigned}"))?;
        }
        let wide = self.imports.iter().map(|import| import.interface.len()).max().unwrap_or(0);
        let mut label = "imports";
        for Import { interface, allows, granted } in &self.imports {
            let mark = match granted {
                Some(true) => "granted    ",
                Some(false) => "NOT GRANTED",
                None => "free       ",
            };
            row(label, &format!("{interface:wide$}  {mark}  {allows}"))?;
            label = "";
        }
        if self.imports.is_empty() {
            row(label, "nothing")?;
        }
        let mut label = "operations";
        for CloudOperation { operation, granted, .. } in &self.operations {
            let mark = if *granted { "granted    " } else { "NOT GRANTED" };
            row(label, &format!("{mark}  {operation}"))?;
            label = "";
        }
        if !self.endpoints.is_empty() {
            row("endpoints", &self.endpoints.join(", "))?;
        }
        for CloudPolicy { provider, policy } in &self.policies {
            row(&format!("for {provider}"), policy)?;
        }
        let missing = &self.missing;
        if missing.is_empty() {
            return Ok(());
        }
        let flag = missing.join(",");
        let quote = if flag.contains([' ', '?', '&', '*']) { "'" } else { "" };
        row("to grant", &format!("--allow {quote}{flag}{quote}"))?;
        row("", "or in the file of --plugin-grants:")?;
        row("", "[[grant]]")?;
        row("", &format!("digest = \"sha256:{}\"", self.digest))?;
        row("", &format!("allow = {missing:?}"))
    }
}
