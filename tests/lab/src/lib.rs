//! A cluster in network namespaces: several nodes on a switch, pods behind each, and the real `flanneld` in every node.
//!
//! Nothing here is simulated but the cable. A [`Lab`] is made of kernel network namespaces that have no name and are held
//! only by file descriptors of this process, so they vanish with it, however it ends. Several labs run side by side, in one
//! process and in several.
//!
//! From the bottom up:
//!
//! | module | job |
//! |---|---|
//! | [`namespace`], [`nursery`], [`prepared`] | network namespaces; child processes that never outlive this one; tools that wait for their moment |
//! | [`cable`], [`switch`], [`node`], [`pod`], [`lab`] | the cables and addresses |
//! | [`cni`] | pods that the CNI project's plugins make |
//! | [`store`], [`etcd`] | where the daemons keep their leases |
//! | [`daemon`], [`clock`], [`manager`], [`log`] | the real binary, the time that it sees, the service manager that keeps its descriptors, and what it says |
//! | [`reference`](mod@reference) | upstream's own daemon, to compare with |
//! | [`echo`], [`prober`], [`datagram`] | packets, which of them were lost, and whom they seem to come from |
//! | [`http`] | questions to a daemon |
//! | [`cloud`] | clouds: APIs, metadata services, and whose libraries prove them right |
//! | [`registry`] | where plugins can come from |
//! | [`firewall`] | the rules that a node has, as its tools show them |
//! | [`state`], [`watcher`], [`repair`] | what the kernel has, each change to it, and how fast damage is mended |
//! | [`random`] | random numbers that come again |
//! | [`backend`], [`vtep`] | what each backend needs of the machine; what the kernel should have for a vxlan peer |
//! | [`cluster`] | all of it together, for tests and for the demo |
//! | [`demo`], [`bench`](mod@bench) | what `cargo xtask demo` shows, and what `cargo xtask bench` measures |

pub mod artifacts;
pub mod backend;
pub mod bench;
pub mod cable;
pub mod clock;
pub mod cloud;
pub mod cluster;
pub mod cni;
pub mod daemon;
pub mod datagram;
pub mod demo;
pub mod echo;
pub mod etcd;
pub mod firewall;
pub mod http;
pub mod lab;
pub mod log;
pub mod manager;
pub mod namespace;
pub mod node;
pub mod nursery;
pub mod pod;
pub mod prepared;
pub mod privileges;
pub mod prober;
pub mod random;
pub mod reference;
pub mod registry;
pub mod repair;
pub mod state;
pub mod store;
pub mod subnet_env;
pub mod switch;
pub mod vtep;
pub mod wait;
pub mod watcher;

pub use backend::Backend;
pub use clock::Clock;
pub use cluster::{Cluster, ClusterOptions};
pub use cni::Cni;
pub use daemon::{Daemon, DaemonOptions};
pub use echo::Echo;
pub use firewall::Firewall;
pub use lab::{Lab, Underlay};
pub use namespace::Namespace;
pub use node::{Node, Place};
pub use pod::Pod;
pub use prober::{Pings, Prober};
pub use store::Store;
