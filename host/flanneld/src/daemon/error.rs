//! Why the daemon ends.

use std::io;

use flannel_cloud::EndpointsError;
use flannel_datapath::{DatapathError, NetlinkError};
use flannel_firewall::FirewallError;
use flannel_lease_store::StoreError;
use flannel_model::network_config::ConfigError;
use flannel_plugin_host::{ArtifactError, GrantError, PluginError};
use flannel_telemetry::ObserveError;

use crate::node::claims::Taken;
use crate::node::external::ExternalError;

/// A reason to end, for the operator: one line.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Signal handlers could not be installed.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// The control socket or the health endpoints could not be had.
    #[error("{0}")]
    Observe(#[from] ObserveError),
    /// Masquerading is wanted and cannot be had.
    #[error("firewall: {0}")]
    Firewall(#[from] FirewallError),
    /// The file with endpoints is not as it has to be.
    #[error("{0}")]
    HttpEndpoints(EndpointsError),
    /// What is granted for this run cannot be had.
    #[error("--allow: {0}")]
    Allow(GrantError),
    /// A registry is not watched.
    #[error(
        "--watch-plugin watches files, and --plugin names a registry: SIGHUP asks the registry for the tag again"
    )]
    NothingToWatch,
    /// Commands that are not run.
    #[error("network config ({place}): {reason}")]
    Commands {
        /// Where it came from.
        place: String,
        /// Which, and what would be right.
        reason: String,
    },
    /// An option of plugins with two values.
    #[error("--plugin-option {name} is given twice: once is right")]
    PluginOptionTwice {
        /// Its name.
        name: String,
    },
    /// The network config is wrong.
    #[error("network config ({place}): {error}")]
    Config {
        /// Where it came from.
        place: String,
        /// What is wrong.
        error: ConfigError,
    },
    /// A secret in the backend's options is wrong.
    #[error("network config ({place}): {reason}")]
    Secret {
        /// Where it came from.
        place: String,
        /// What is wrong, without the secret.
        reason: String,
    },
    /// The lease store refused.
    #[error("lease store: {0}")]
    Store(#[from] StoreError),
    /// Another daemon of this host has what only one can have.
    #[error(
        "{0}; several daemons on a host need networks, --state-dir and --subnet-file of their own, and VNIs, ports and devices \
         that differ"
    )]
    Taken(#[from] Taken),
    /// No external interface.
    #[error("external interface: {0}")]
    External(#[from] ExternalError),
    /// The kernel's interfaces could not be read.
    #[error("external interface: the kernel's interfaces cannot be read: {0}")]
    Inventory(#[from] rtnetlink::Error),
    /// The plugin could not be loaded.
    #[error("{0}")]
    Artifact(#[from] ArtifactError),
    /// The plugin failed in a call without which there is no start.
    #[error("{0}")]
    Plugin(#[from] PluginError),
    /// The kernel cannot be reached.
    #[error("{0}")]
    Datapath(#[from] DatapathError),
    /// The kernel cannot be asked.
    #[error("the kernel's network configuration is out of reach: {0}")]
    Netlink(#[from] NetlinkError),
    /// A device could not be made.
    #[error("device {0}")]
    Device(String),
    /// The thread that the plugin runs on ended.
    #[error("the plugin's thread ended")]
    PolicyThread,
    /// No thread could be had.
    #[error("no thread for the plugin: {0}")]
    Thread(io::Error),
    /// The store's watch ended.
    #[error("the watch of the lease store ended")]
    WatchEnded,
}
