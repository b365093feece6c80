//! The command line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Gives this host a subnet of the cluster network and makes the other hosts' subnets reachable.
///
/// How packets get from host to host is decided by a plugin, a WebAssembly component: the built-in one for the
/// Backend.Type of the network config, or the file given with --plugin.
#[derive(Clone, Debug, Parser)]
#[command(name = "flanneld", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Something other than serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How to serve.
    #[command(flatten)]
    pub options: Options,
}

/// Something other than serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Work on plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
}

/// Work on plugins.
#[derive(Clone, Debug, Subcommand)]
pub enum PluginCommand {
    /// Compile a component ahead of time, in the form in which plugins are built into flanneld
    Compile {
        /// The component
        component: PathBuf,
        /// The file to write
        output: PathBuf,
    },
}

/// How to serve.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Use this component instead of the built-in plugin for the network config's Backend.Type
    #[arg(long, value_name = "FILE")]
    pub plugin: Option<PathBuf>,

    /// Where leases and the network config are: `etcd`, or `file:DIR` for a directory (DIR/config, DIR/subnets/)
    #[arg(long, value_name = "STORE", default_value = "etcd", value_parser = parse_store)]
    pub store: Store,

    /// etcd's endpoints, separated by commas
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:4001,http://127.0.0.1:2379"
    )]
    pub etcd_endpoints: Vec<String>,

    /// Prefix of all keys in etcd
    #[arg(long, value_name = "PREFIX", default_value = "/coreos.com/network")]
    pub etcd_prefix: String,

    /// External interface, by name or address; may be given several times, the first that exists is taken
    #[arg(long, value_name = "NAME|IP")]
    pub iface: Vec<String>,

    /// Regular expression for the external interface's addresses, then names; may be given several times
    #[arg(long, value_name = "REGEX")]
    pub iface_regex: Vec<String>,

    /// Take the interface over which this address is reached
    #[arg(long, value_name = "IP")]
    pub iface_can_reach: Option<IpAddr>,

    /// IPv4 address to publish instead of the external interface's
    #[arg(long, value_name = "IP")]
    pub public_ip: Option<Ipv4Addr>,

    /// IPv6 address to publish instead of the external interface's
    #[arg(long, value_name = "IP")]
    pub public_ipv6: Option<Ipv6Addr>,

    /// File to write the subnet, the MTU and the cluster network to, for container runtimes
    #[arg(long, value_name = "FILE", default_value = "/run/flannel/subnet.env")]
    pub subnet_file: PathBuf,

    /// Minutes before its end at which the lease is renewed, 1 to 1439
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1439))]
    pub subnet_lease_renew_margin: u32,

    /// Directory for what has to survive a reboot: MAC addresses, plugins' state
    #[arg(long, value_name = "DIR", default_value = "/var/lib/flanneld")]
    pub state_dir: PathBuf,

    /// Directory for compiled plugins
    #[arg(long, value_name = "DIR", default_value = "/var/cache/flanneld")]
    pub cache_dir: PathBuf,

    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, also for single modules, as in `info,flanneld::datapath=debug`
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = parse_level)]
    pub log_level: String,
}

/// Which lease store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// etcd, with upstream's keys.
    Etcd,
    /// A directory.
    File(PathBuf),
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn parse_store(text: &str) -> Result<Store, String> {
    match text.split_once(':') {
        None if text == "etcd" => Ok(Store::Etcd),
        Some(("file", directory)) if !directory.is_empty() => Ok(Store::File(directory.into())),
        _ => Err("a store is `etcd` or `file:DIR`".to_owned()),
    }
}

fn parse_level(text: &str) -> Result<String, String> {
    text.parse::<tracing_subscriber::EnvFilter>()
        .map(|_| text.to_owned())
        .map_err(|error| format!("{error}; a level is error, warn, info, debug or trace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn stores_are_etcd_or_a_directory() {
        assert_eq!(parse_store("etcd"), Ok(Store::Etcd));
        assert_eq!(parse_store("file:/srv/leases"), Ok(Store::File("/srv/leases".into())));
        for wrong in ["file:", "file", "consul", "/srv/leases"] {
            assert!(parse_store(wrong).is_err(), "{wrong}");
        }
    }
}
