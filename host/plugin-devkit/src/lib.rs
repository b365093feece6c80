//! Plugins without a node: a made-up node and made-up leases, for authors. Nothing is changed anywhere.

#![warn(unreachable_pub)]

pub mod bench;
pub mod check;
mod desired;
pub mod inspect;
pub mod leases;
pub mod new;
mod node;
mod peers;
mod permissions;
pub mod preview;
pub mod run;
mod scripted;
mod session;
mod subject;
mod table;
pub mod toolchain;
mod wanted;

#[cfg(test)]
mod tests;

pub use desired::Desired;
pub use node::{Families, SampleNode};
pub use wanted::Wanted;
