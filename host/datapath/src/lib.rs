//! What should exist in the kernel, and the one place that makes it so. The way in is [`Datapath`].
//!
//! | Module | Its job |
//! |---|---|
//! | `kernel` | the mirror: what exists, as far as it concerns us |
//! | `plan` | the difference to what should exist, as requests in order; pure |
//! | `reconciler`, `thread` | reads, plans, sends; the thread, and the handle that the daemon has |
//! | `links`, `tunnels` | devices, a module for each kind; the host's own tunnels |
//! | `netlink`, `codec` | sockets and messages of the routing family |
//! | [`wireguard`] | where the node's key is kept, and the generic netlink family that sets devices and peers |

#![warn(unreachable_pub)]

mod codec;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod kernel;
mod links;
mod netlink;
mod plan;
mod reconciler;
mod report;
#[cfg(test)]
mod tests;
mod thread;
mod tunnels;
pub mod wireguard;

pub use kernel::Link;
pub use netlink::NetlinkError;
pub use reconciler::Event;
pub use report::{Figures, KindFigures, PeerReport, Report, TunnelReport};
pub use thread::{Datapath, DatapathError, Probe};
pub use tunnels::{Keeper, Meters, TunnelContext};
