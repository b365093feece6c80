//! What should exist in the kernel, and the one place that makes it so. The way in is [`Datapath`].

mod codec;
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
