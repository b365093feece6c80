//! Leases on Kubernetes nodes: how they are written there, and the lease store that is made of that. But for [`store`] nothing in here reads or
//! writes anything.
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
//! | [`store`] | the lease store that is made of all that |
//! | [`peers`] | everybody's leases out of everybody's nodes |

#![warn(unreachable_pub)]

pub mod annotated;
pub mod cidrs;
pub mod condition;
pub mod families;
pub mod own;
pub mod peers;
pub mod prefix;
pub mod store;
