//! `flanneld`: gives every host of a cluster a subnet and makes the hosts' subnets reach each other.
//!
//! The rooms of the house, each with one job and one way in: [`lease`] (who has which subnet), [`plugin`] (the sandboxed
//! policy), [`datapath`] (what should be in the kernel, and the one writer that makes it so), [`node`] (this machine), and
//! [`daemon`], the only place where they meet. `docs/architecture.md` has the picture.

pub mod cli;
pub mod daemon;
pub mod node;
