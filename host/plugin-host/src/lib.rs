//! The sandboxed policy: loads a component, gives it the capabilities that it imports, calls it within limits, and checks all
//! that it says. What it declares comes out as a [`flannel_model::ledger::Transaction`]; nothing in here touches the kernel.

#![warn(unreachable_pub)]

mod about;
mod artifact;
mod bindings;
mod budget;
mod call;
mod capability;
mod code_cache;
mod compile;
mod conditions;
mod convert;
mod debuginfo;
mod digest;
mod engine;
mod error;
mod facts;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod grant_file;
mod grants;
mod imports;
mod instance;
mod limits;
mod load;
mod log_rate;
mod needs;
mod nodes;
mod origin;
mod outline;
mod policy;
mod private_dir;
mod probing;
mod published;
mod reference;
mod registry;
mod secrets;
mod series;
mod signature;
mod state;
mod wasi;
mod watchdog;

pub use about::NodeInfo;
pub use artifact::{Artifact, ArtifactError, BuiltIn, Source};
pub use budget::processor_time;
pub use capability::{CloudRecord, commands};
pub use compile::{CHILD, CompileError, CompileLimits, Compiler, compile_for_embedding, run_child};
pub use digest::{Digest, NoDigest};
pub use error::{Cause, PluginError};
pub use facts::{
    Clouds, Command, CommandFailure, CommandOutcome, Commands, Endpoints, Environment, LinkFacts, NoClouds,
    NoCommands, NoEndpoints, NodeFacts, Uplink,
};
pub use flannel_base::Family;
pub use grants::{
    EndpointGrants, GrantError, GrantRequest, Granted, Grants, granted_endpoint, needs_grant, parse_grant,
};
pub use imports::{CONTRACT, INTERFACES, PROBE, WASI};
pub use instance::{CallRecord, Outcome};
pub use limits::Limits;
pub use load::Loader;
pub use needs::{Need, Pattern};
pub use outline::Excess;
pub use policy::{ApplyOutcome, Description, PeerChange, Policy, PublishedAnew, Registration, is_name};
pub use probing::{NoProbes, ProbeCondition, ProbeKey, ProbeReport, ProbeTarget, Probes, RoundTrip};
pub use reference::{PluginReference, ReferenceError, RegistryReference, Version};
pub use registry::{Publication, Pulled, Registries, RegistryError, WitPackage};
pub use secrets::{Secrets, extract_secrets};
pub use series::{Figure, PluginSeries, SeriesFamily, SeriesLabels};
pub use signature::{
    BUNDLE_EXTENSION, KeyError, NoRandomness, PASSWORD_VARIABLE, PrivateKey, PrivateKeyError, Provenance,
    PublicKey, SIGNATURE_EXTENSION, Signer, TrustedKey, beside_name, read_plugin, verify_file,
};
pub use state::DirState;

#[cfg(test)]
mod cloud_scope_tests;
#[cfg(test)]
mod cloud_tests;
#[cfg(test)]
mod commands_tests;
#[cfg(test)]
mod http_tests;
#[cfg(test)]
mod policy_routing_tests;
#[cfg(test)]
mod probe_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tunnel_links_tests;
