//! The sandboxed policy: loads a component, gives it the capabilities that it imports, calls it within limits, and checks all
//! that it says. What it declares comes out as a [`crate::datapath::ledger::Transaction`]; nothing in here touches the kernel.

mod artifact;
mod bindings;
mod call;
mod capability;
mod compiled;
mod convert;
mod engine;
mod error;
mod facts;
mod imports;
mod instance;
pub mod kit;
mod limits;
mod policy;
mod private;
mod secrets;
mod state;
mod watchdog;

pub use artifact::{Artifact, ArtifactError, BuiltIn, Source};
pub use compiled::compile_for_embedding;
pub use error::{Cause, PluginError};
pub use facts::{Environment, Family, LinkFacts, NodeFacts};
pub use instance::{CallRecord, Outcome};
pub use limits::Limits;
pub use policy::{Applied, Described, PeerChange, Policy, Registered};
pub use secrets::{Secrets, withhold};
pub use state::DirState;

#[cfg(test)]
mod tests;
