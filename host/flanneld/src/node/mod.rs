//! This node: its external interface, its devices' MAC addresses, and the subnet file.

pub mod blackhole;
pub mod docker_opts;
pub mod external;
pub mod inventory;
pub mod macs;
pub mod subnet_file;
