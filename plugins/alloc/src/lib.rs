//! The alloc backend: the host gets a subnet and nothing is programmed; somebody else makes the subnets reach each other.

use flannel_backend::{Config, Lease, Node, PeerId, Policy, Registration};

/// The policy.
struct AllocPolicy;

impl Policy for AllocPolicy {
    const NAME: &'static str = "alloc";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["alloc"];

    /// Publishes no backend type, as upstream: nobody is to think that this node can be reached some way.
    fn register(node: &Node, _config: &Config) -> Result<(Self, Registration), String> {
        Ok((Self, Registration { mtu: node.external.mtu, ..Registration::default() }))
    }

    fn put(&mut self, _peer: PeerId, _lease: &Lease) -> Result<(), String> {
        Ok(())
    }
}

flannel_backend::export!(AllocPolicy);

#[cfg(test)]
mod tests;
