//! This node: its external interface, its devices' MAC addresses, and the subnet file.

pub(crate) mod backend_record;
pub(crate) mod backend_secrets;
pub(crate) mod claims;
pub mod docker_opts;
pub(crate) mod external;
pub(crate) mod firewall_owner;
pub(crate) mod former_networks;
mod interface_choice;
pub(crate) mod inventory;
pub(crate) mod macs;
pub mod name;
pub(crate) mod own_addresses;
pub mod prospect;
mod record;
pub mod subnet_file;
pub mod uplinks;
