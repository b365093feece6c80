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
//! | [`namespace`], [`child_reaper`], [`primed_command`] | network namespaces; child processes that never outlive this one; tools that wait for their moment |
//! | [`veth`], [`bridge`], [`node`], [`pod`], [`lab`] | the cables and addresses |
//! | [`cni`] | pods that the CNI project's plugins make |
//! | [`store`], [`etcd`] | where the daemons keep their leases |
//! | [`control_plane`] | a real Kubernetes control plane, for daemons that keep their leases in node objects |
//! | [`kubernetes`] | real nodes of Kubernetes: kubelet, containerd, kube-proxy |
//! | [`daemon`], [`clock`], [`fake_systemd`], [`log`] | the real binary, the time that it sees, the service manager that keeps its descriptors, and what it says |
//! | [`sandbox`], [`contained`], [`forwarder`] | a container around it, and the way from a node to the API server |
//! | [`reference`](mod@reference) | upstream's own daemon, to compare with |
//! | [`echo`], [`ping_probe`], [`datagram`] | packets, which of them were lost, and whom they seem to come from |
//! | [`traffic`] | traffic of which each packet is counted, and each byte compared |
//! | [`http`] | questions to a daemon |
//! | [`cloud`] | clouds: APIs, metadata services, and whose libraries prove them right |
//! | [`registry`] | where plugins can come from |
//! | [`firewall`] | the rules that a node has, as its tools show them |
//! | [`state`], [`snapshot`], [`netlink_monitor`], [`repair`] | what a node has, each change to it, and how fast damage is mended |
//! | [`random`] | random numbers that come again |
//! | [`backend`], [`vtep`] | what each backend needs of the machine; what the kernel should have for a vxlan peer |
//! | [`change`] | another backend for a cluster that lives, and what has to be so afterwards |
//! | [`hostile_lease`] | leases that nobody should believe |
//! | [`cluster`] | all of it together, for tests and for the demo |
//! | [`demo`], [`bench`](mod@bench), [`soak`] | what `cargo xtask demo` shows, what `cargo xtask bench` measures, and what `cargo xtask soak` goes through |

pub mod artifacts;
pub mod backend;
pub mod bench;
pub mod bridge;
pub mod change;
pub mod child_reaper;
pub mod clock;
pub mod cloud;
pub mod cluster;
pub mod cni;
pub mod contained;
mod control;
pub mod control_plane;
pub mod crowd;
pub mod daemon;
pub mod datagram;
pub mod demo;
pub mod echo;
pub mod etcd;
pub mod fake_systemd;
pub mod firewall;
pub mod forwarder;
pub mod hostile_lease;
pub mod http;
mod interrupt;
pub mod kube_store;
pub mod kubernetes;
pub mod lab;
pub mod log;
pub mod namespace;
pub mod netlink_monitor;
pub mod node;
pub mod ping_probe;
pub mod pod;
pub mod primed_command;
pub mod privileges;
pub mod random;
pub mod reference;
pub mod registry;
pub mod repair;
pub mod sandbox;
pub mod snapshot;
pub mod soak;
pub mod state;
pub mod stopped_thread;
pub mod store;
pub mod subnet_env;
pub mod traffic;
pub mod veth;
pub mod vtep;
pub mod wait;
pub mod wire;

pub use backend::Backend;
pub use clock::Clock;
pub use cluster::{Cluster, ClusterOptions};
pub use cni::Cni;
pub use control_plane::ControlPlane;
pub use daemon::{Daemon, DaemonOptions, share_cache_key};
pub use echo::Echo;
pub use firewall::Firewall;
pub use kubernetes::KubernetesCluster;
pub use lab::{Lab, Underlay};
pub use namespace::Namespace;
pub use node::{Node, Place};
pub use ping_probe::{Pings, Prober};
pub use pod::Pod;
pub use store::Store;
pub use traffic::Traffic;
