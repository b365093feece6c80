//! What should exist in the kernel, and the one place that makes it so. The entry point is [`Datapath`].
//!
//! | Module | Its job |
//! |---|---|
//! | `kinds` | a module for each kind of entry: its messages, how it comes and goes, what is ours, how it is read |
//! | `observed` | the mirror: what exists, as far as it concerns us |
//! | `plan` | the difference to what should exist, as requests in order; pure |
//! | `reconciler`, `thread` | reads, plans, sends; the thread, and the handle that the daemon has |
//! | `links`, `tunnels` | devices, a module for each kind; the host's own tunnels |
//! | `policy_tables` | the numbers of the tables that a plugin has of its own |
//! | `trial` | the ground on which a change of the backend tries its new ways |
//! | `netlink` | sockets of the routing family |
//! | [`wireguard`] | where the node's key is kept, and the generic netlink family that sets devices and peers |

#![warn(unreachable_pub)]

#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod ipsec;
mod kinds;
mod links;
mod netlink;
mod observed;
mod plan;
mod policy_tables;
mod reconciler;
mod report;
mod route_record;
#[cfg(test)]
mod tests;
mod thread;
mod trial;
mod tunnels;
pub mod wireguard;

pub use netlink::NetlinkError;
pub use observed::Link;
pub use reconciler::Event;
pub use report::{KindStats, PeerReport, Report, Stats, TunnelReport};
pub use thread::{Context, Datapath, DatapathError, DeviceClaim, Probe};
pub use tunnels::{DescriptorStore, Meters, TunnelContext};
