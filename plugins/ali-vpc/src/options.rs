//! The options of the network config's `Backend` object. `AccessKeyID` and `AccessKeySecret` are the host's business.

use flannel_backend::{Config, cloud};

/// Options. Upstream has none of these.
#[derive(Debug, Default)]
pub struct Options {
    /// `RouteTableID`, one or several: the route tables that get this node's row. Empty: the one that the node's vSwitch uses.
    pub tables: Vec<String>,
}

impl Options {
    /// Reads and checks all of them.
    pub fn read(config: &Config) -> Result<Self, String> {
        Ok(Self { tables: cloud::route_tables(config, "vtb-")? })
    }
}
