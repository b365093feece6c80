//! Plugins without a node: a made-up node and made-up leases, for authors. Nothing is changed anywhere.

pub mod bench;
pub mod inspect;
mod node;
mod peers;

pub use node::{DryNode, environment};
pub use peers::lease;
