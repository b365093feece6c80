//! This node: its external interface, its devices' MAC addresses, the subnet file, and whom it trusts.

pub mod authorities;
pub mod blackhole;
pub mod docker_opts;
pub mod external;
pub mod inventory;
pub mod macs;
pub mod subnet_file;
