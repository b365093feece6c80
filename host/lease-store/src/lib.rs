//! Where everybody's leases are: what a store does ([`LeaseStore`]), and the stores that there are: [`etcd`], with upstream's keys, and
//! [`file`](mod@file), a directory. One suite of tests (`conformance`) runs against both.

#![warn(unreachable_pub)]

mod allocate;
#[cfg(test)]
mod conformance;
pub mod etcd;
pub mod file;
mod store;

pub use store::{
    Acquire, Change, ConfigWritten, Event, LEASE_TTL, LeaseStore, Renewed, Snapshot, StoreError,
};
