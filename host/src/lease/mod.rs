//! Who has which subnet: the network config, allocation, and the stores that all nodes share.
//!
//! [`store`] says what a store does. There are two: [`etcd`],
//! with upstream's keys, and [`file`], a directory. One suite of tests (`conformance`) runs against both.

pub mod etcd;
pub mod file;

pub mod store;

mod allocate;
#[cfg(test)]
mod conformance;
