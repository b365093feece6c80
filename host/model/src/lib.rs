//! What the daemon's crates tell each other, as plain data: nothing in here reads or writes anything.
//!
//! | Module | What it says |
//! |---|---|
//! | [`lease`] | who has which subnets |
//! | [`node_identity`] | whose a lease is |
//! | [`network_config`], [`mod@canonical`] | what the operator wants of the cluster; its backend in the one way in which it is compared |
//! | [`secrets`] | what of that backend nobody is told |
//! | [`config_change`], [`spelling`] | what differs between two of these, and what a misspelt name is meant to be |
//! | [`codec`] | how leases are written in a store |
//! | [`prefix`] | how networks are written |
//! | [`subnet_file`] | what container runtimes are told of the node's subnets |
//! | [`entry`] | what can exist in the kernel, and the devices that it hangs on |
//! | [`generations`] | two generations of the backend side by side, during a change |
//! | [`tunnel_link`] | GRE, Geneve, IP in IP and VLAN devices |
//! | [`policy_routing`] | routes with attributes, and rules |
//! | [`ledger`] | what should exist, and the transactions that change it |
//! | [`wireguard`], [`ipsec`] | keys and peers of WireGuard devices and of XFRM interfaces |
//! | [`offloads`] | what makes tunnels fast |

#![warn(unreachable_pub)]

pub mod canonical;
pub mod codec;
pub mod config_change;
pub mod entry;
pub mod generations;
pub mod ipsec;
pub mod lease;
pub mod lease_key;
pub mod ledger;
pub mod network_config;
pub mod node_identity;
pub mod offloads;
pub mod policy_routing;
pub mod prefix;
pub mod secrets;
pub mod spelling;
pub mod subnet_file;
pub mod tunnel_link;
pub mod wireguard;
