//! `flanneld`: gives every host of a cluster a subnet and makes the hosts' subnets reach each other.
//!
//! The other crates in `host/` each do one thing and know nothing of each other; here they meet. `docs/architecture.md` has the picture.
//!
//! | Module | Its job |
//! |---|---|
//! | [`cli`] | flags, environment and commands, from one definition |
//! | [`node`] | this machine: its external interface, its devices' MAC addresses, the subnet file |
//! | [`store`] | the lease store that the command line names |
//! | [`daemon`] | starts everything in order, and carries changes from the lease store to the kernel |
//!
//! A library beside the binary, so that a build with other built-in plugins compiles nothing but the binary.

#![warn(unreachable_pub)]

pub mod cli;
pub mod daemon;
pub mod node;
pub mod store;
