//! The policy against a little EC2, without a host.

mod ec2;
mod faults;
mod interface;
mod options;
mod routes;
mod tables;
