//! What the process gives up when it starts, whoever starts it, and what its threads that run others' code or read others' bytes give up
//! besides.
//!
//! A thread that is [confined](confine) has no capabilities and a filter for system calls, and gets neither back. What the host has to do
//! for it with files goes through [`with_privileges`].

#![warn(unreachable_pub)]

mod capabilities;
mod filter;
mod process;
mod search_path;
mod thread;

pub use capabilities::{Capabilities, DAEMON, FILES, effective, give_up_all_but};
pub use filter::Profile;
pub use process::harden;
pub use search_path::search_path;
pub use thread::{confine, spawn_confined, start_helper, with_privileges};
