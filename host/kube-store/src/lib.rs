//! How leases are written on Kubernetes nodes: nothing in here reads or writes anything, and the API server is somebody else's.
//!
//! A node has its subnets from Kubernetes (`spec.podCIDRs`), and says in its annotations how it is reached, byte for byte as upstream.
//!
//! | Module | What it says |
//! |---|---|
//! | [`prefix`] | how the annotations are called |
//! | [`families`] | which families a cluster has |
//! | [`cidrs`] | which subnets a node has |
//! | [`annotated`] | what a node's annotations say |
//! | [`own`] | what this node's should say, and the patch that makes them so |
//! | [`condition`] | the condition that says that the node has a network |
//! | [`peers`] | everybody's leases out of everybody's nodes |

#![warn(unreachable_pub)]

pub mod annotated;
pub mod cidrs;
pub mod condition;
pub mod families;
pub mod own;
pub mod peers;
pub mod prefix;
