//! This node: its external interface, its devices' MAC addresses, and the subnet file.

pub mod docker_opts;
pub(crate) mod external;
pub(crate) mod former_networks;
pub(crate) mod inventory;
pub(crate) mod macs;
mod record;
pub mod subnet_file;
