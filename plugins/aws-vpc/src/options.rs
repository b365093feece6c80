//! The options of the network config's `Backend` object.

use flannel_backend::{Config, cloud};

/// Options with upstream's names and defaults.
#[derive(Debug, Default)]
pub struct Options {
    /// `RouteTableID`, one or several: the route tables that get this node's rows. Empty: the one that the node's subnet uses.
    pub tables: Vec<String>,
}

impl Options {
    /// Reads and checks all of them.
    pub fn read(config: &Config) -> Result<Self, String> {
        Ok(Self { tables: cloud::route_tables(config, "rtb-")? })
    }
}
