//! The sandboxed policy: loads a component, gives it the capabilities that it imports, calls it within limits, and checks all
//! that it says. What it declares comes out as a [`flannel_model::ledger::Transaction`]; nothing in here touches the kernel.

#![warn(unreachable_pub)]

mod artifact;
mod bindings;
mod budget;
mod call;
mod capability;
mod compiled;
mod convert;
mod debuginfo;
mod digest;
mod engine;
mod error;
mod facts;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod grants;
mod imports;
mod instance;
mod limits;
mod load;
mod needs;
mod policy;
mod private_dir;
mod reference;
mod registry;
mod secrets;
mod state;
mod wasi;
mod watchdog;

pub use artifact::{Artifact, ArtifactError, BuiltIn, Source};
pub use capability::CloudRecord;
pub use compiled::compile_for_embedding;
pub use digest::{Digest, NoDigest};
pub use error::{Cause, PluginError};
pub use facts::{Clouds, Environment, LinkFacts, NoClouds, NodeFacts};
pub use flannel_base::Family;
pub use grants::{GrantError, GrantRequest, Grants, needs_grant, parse_grant};
pub use imports::{CONTRACT, INTERFACES, WASI};
pub use instance::{CallRecord, Outcome};
pub use limits::Limits;
pub use load::load;
pub use needs::{Need, Pattern};
pub use policy::{ApplyOutcome, Description, PeerChange, Policy, Registration, is_name};
pub use reference::{PluginReference, ReferenceError, RegistryReference, Version};
pub use registry::{Registries, RegistryError};
pub use secrets::{Secrets, extract_secrets};
pub use state::DirState;

#[cfg(test)]
mod cloud_tests;
#[cfg(test)]
mod tests;
