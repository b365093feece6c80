//! How to serve: upstream's flags with upstream's defaults, and our own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use flannel_base::text::without_credentials;
use flannel_cloud::Endpoint;
use flannel_model::offloads::Offloads;
use flannel_model::prefix;
use flannel_plugin_host::{CompileLimits, Compiler, Loader, PluginReference, parse_grant};
use ipnet::IpNet;

use super::instance::{DEFAULT_ANNOTATION_PREFIX, DEFAULT_PREFIX};
use super::syntax;

/// Flags of the daemon. Names and defaults are upstream's, but for those under "Plugins and files" and the log's.
#[derive(Args, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch on the command line")]
pub struct Options {
    /// Use this component instead of the built-in plugin for the network config's Backend.Type: FILE, or
    /// oci://REGISTRY/REPOSITORY:TAG; @sha256:DIGITS behind either pins it
    #[arg(long, value_name = "REF", help_heading = "Plugins and files")]
    pub plugin: Option<PluginReference>,

    /// Swap the plugin when the file given with --plugin changes; without it, SIGHUP does
    #[arg(long, value_parser = syntax::boolean, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", requires = "plugin", help_heading = "Plugins and files")]
    pub watch_plugin: bool,

    /// What plugins that are not built in may do: a TOML file with [[grant]] tables, each with digest, name, signer or key, and
    /// allow; signers are [[signer]] tables with name and key
    #[arg(long, value_name = "FILE", help_heading = "Plugins and files")]
    pub plugin_grants: Option<PathBuf>,

    /// Interfaces that any plugin may use in this run, operations of clouds, and endpoints, separated by commas, such as links,routes
    /// or cloud:aws:ec2:Describe* or cloud:aws:ec2:CreateRoute?RouteTableId=rtb-1 or http:NAME; beside the grants of --plugin-grants
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_grant, help_heading = "Plugins and files")]
    pub allow: Vec<String>,

    /// Run also commands that come into the network config, or change there, while flanneld runs (backend extension); without, only those
    /// that are there when it starts
    #[arg(long, value_parser = syntax::boolean, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", help_heading = "Plugins and files")]
    pub allow_commands: bool,

    /// What plugins are told of this node alone (interface node-info), separated by commas, such as zone=a,rack=7
    #[arg(long = "plugin-option", value_name = "NAME=VALUE", value_delimiter = ',', value_parser = parse_plugin_option, help_heading = "Plugins and files")]
    pub plugin_option: Vec<(String, String)>,
    /// Interfaces that plugins may use beside the external one (interface policy-routing), by name, separated by commas, such as eth1; one that
    /// is away is used when it comes
    #[arg(long = "uplink", value_name = "LIST", value_delimiter = ',', value_parser = parse_interface_name, help_heading = "Plugins and files")]
    pub uplinks: Vec<String>,

    /// APIs over HTTP that plugins may be granted as http:NAME: a TOML file with [endpoint.NAME] tables, each with url, allow,
    /// credentials and ca-file
    #[arg(long, value_name = "FILE", help_heading = "Plugins and files")]
    pub http_endpoints: Option<PathBuf>,

    /// Directory for what has to survive a reboot: MAC addresses, plugins' state; with an --etcd-prefix of one's own a directory
    /// below it, if it is not given
    #[arg(long, value_name = "DIR", default_value = "/var/lib/flanneld", help_heading = "Plugins and files")]
    pub state_dir: PathBuf,

    /// Directory for compiled plugins, and for those from registries
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/cache/flanneld",
        help_heading = "Plugins and files"
    )]
    pub cache_dir: PathBuf,

    /// Seconds of processor time that compiling a plugin may take, 1 to 86400; one that is built in is compiled already
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=86_400), help_heading = "Plugins and files")]
    pub plugin_compile_time: u32,

    /// MiB of memory that compiling a plugin may take, 64 to 1048576; a process of its own has them, and gives them back
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(64..=1_048_576), help_heading = "Plugins and files")]
    pub plugin_compile_memory: u32,

    /// File to write the subnet, the MTU and the cluster network to, for container runtimes
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/run/flannel/subnet.env",
        help_heading = "Plugins and files"
    )]
    pub subnet_file: PathBuf,

    /// CNI configuration to put in place when the node is ready; goes with --cni-conf-to
    #[arg(long, value_name = "FILE", requires = "cni_conf_to", help_heading = "Plugins and files")]
    pub cni_conf_from: Option<PathBuf>,

    /// Where container runtimes look for it, such as /etc/cni/net.d/10-flannel.conflist; it is never removed
    #[arg(long, value_name = "FILE", requires = "cni_conf_from", help_heading = "Plugins and files")]
    pub cni_conf_to: Option<PathBuf>,

    /// What the udp backend's tunnel may use to be fast, if the kernel has it: `none`, or of tso, gso and gro, separated by commas
    #[arg(long, value_name = "LIST", default_value = "tso,gso,gro", value_parser = parse_offloads, help_heading = "Plugins and files")]
    pub tunnel_offloads: Offloads,

    /// Where leases and the network config are: `etcd`; `file:DIR` for a directory (DIR/config, DIR/subnets/); or `kube`, the nodes of
    /// a Kubernetes cluster
    #[arg(long, value_name = "STORE", default_value = "etcd", value_parser = parse_store, help_heading = "Leases")]
    pub store: Store,

    /// Networks that this cluster had before, whose leases are still served, separated by commas; those that this node has seen in
    /// force are known without
    #[arg(long = "former-network", value_name = "LIST", value_delimiter = ',', value_parser = parse_network, help_heading = "Leases")]
    pub former_networks: Vec<IpNet>,

    /// Minutes before its end at which the lease is renewed, 1 to 1439
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = syntax::integer(1..=1439), help_heading = "Leases")]
    pub subnet_lease_renew_margin: i64,

    /// etcd's endpoints, separated by commas
    #[arg(
        long,
        value_name = "URLS",
        value_parser = parse_endpoint,
        value_delimiter = ',',
        default_value = "http://127.0.0.1:4001,http://127.0.0.1:2379",
        help_heading = "etcd"
    )]
    pub etcd_endpoints: Vec<String>,

    /// Prefix of all keys in etcd
    #[arg(long, value_name = "PREFIX", default_value = DEFAULT_PREFIX, help_heading = "etcd")]
    pub etcd_prefix: String,

    /// Client's key for etcd, PEM; goes with --etcd-certfile
    #[arg(long, value_name = "FILE", help_heading = "etcd")]
    pub etcd_keyfile: Option<PathBuf>,

    /// Client's certificate for etcd, PEM; goes with --etcd-keyfile
    #[arg(long, value_name = "FILE", help_heading = "etcd")]
    pub etcd_certfile: Option<PathBuf>,

    /// Authorities that may sign etcd's certificate, PEM; without, those of the system
    #[arg(long, value_name = "FILE", help_heading = "etcd")]
    pub etcd_cafile: Option<PathBuf>,

    /// etcd user
    #[arg(long, value_name = "NAME", help_heading = "etcd")]
    pub etcd_username: Option<String>,

    /// The etcd user's password; better given as FLANNELD_ETCD_PASSWORD
    #[arg(long, value_name = "PASSWORD", help_heading = "etcd")]
    pub etcd_password: Option<String>,

    /// Where a cloud's service is, instead of the usual place: PROVIDER:SERVICE=URL, such as aws:ec2=https://ec2.example.com;
    /// several with commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Plugins and files")]
    pub cloud_endpoint: Vec<Endpoint>,

    /// External interface, by name or address; may be given several times, the first that exists is taken
    #[arg(long, value_name = "NAME|IP", help_heading = "External interface")]
    pub iface: Vec<String>,

    /// Regular expression for the external interface's addresses, then names; may be given several times
    #[arg(long, value_name = "REGEX", help_heading = "External interface")]
    pub iface_regex: Vec<String>,

    /// Take the interface over which this address is reached
    #[arg(long, value_name = "IP", help_heading = "External interface")]
    pub iface_can_reach: Option<IpAddr>,

    /// IPv4 address to publish instead of the external interface's
    #[arg(long, value_name = "IP", help_heading = "External interface")]
    pub public_ip: Option<Ipv4Addr>,

    /// IPv6 address to publish instead of the external interface's
    #[arg(long, value_name = "IP", help_heading = "External interface")]
    pub public_ipv6: Option<Ipv6Addr>,

    /// Masquerade what pods send out of the cluster network
    #[arg(long, value_parser = syntax::boolean, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", help_heading = "Firewall")]
    pub ip_masq: bool,

    /// Masquerade without random source ports
    #[arg(long, value_parser = syntax::boolean, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", help_heading = "Firewall")]
    pub ip_masq_fully_random_disable: bool,

    /// Let the firewall forward the cluster network's packets
    #[arg(long, value_parser = syntax::boolean, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Firewall")]
    pub iptables_forward_rules: bool,

    /// Let VXLAN and IPIP packets in only from addresses that leases publish; only where rules for masquerading or forwarding are
    /// wanted, too
    #[arg(long, value_parser = syntax::boolean, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Firewall")]
    pub tunnel_source_check: bool,

    /// Seconds between two looks at the firewall's rules, at least 1
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = syntax::integer(1..=86_400), help_heading = "Firewall")]
    pub iptables_resync: i64,

    /// Drop packets for addresses of the node's own subnet that no pod has
    #[arg(long, value_parser = syntax::boolean, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", help_heading = "Firewall")]
    pub ip_blackhole_route: bool,

    /// Address on which /healthz, /readyz and /metrics are served
    #[arg(long, value_name = "IP", default_value = "0.0.0.0", help_heading = "Observation")]
    pub healthz_ip: IpAddr,

    /// Port of /healthz, /readyz and /metrics; 0 or less: they are not served
    #[arg(long, value_name = "PORT", default_value_t = 0, value_parser = syntax::integer(-65_535..=65_535), help_heading = "Observation")]
    pub healthz_port: i64,

    /// Socket for `flanneld status`; with an --etcd-prefix of one's own it has that in its name, if it is not given
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/run/flannel/flanneld.sock",
        help_heading = "Observation"
    )]
    pub control_socket: PathBuf,

    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT", help_heading = "Observation")]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, also for single modules, as in `info,flanneld::datapath=debug`;
    /// without, --v decides
    #[arg(long, value_name = "LEVEL", value_parser = parse_level, help_heading = "Observation")]
    pub log_level: Option<String>,

    /// How much is logged, by upstream's numbers: 4 and more is debug, 6 and more is trace
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = syntax::integer(i64::from(i32::MIN)..=i64::from(i32::MAX)), help_heading = "Observation")]
    pub v: i64,

    /// Upstream's; without effect here
    #[arg(long, value_name = "SPEC", hide = true)]
    pub vmodule: Option<String>,

    /// Upstream's; without effect here
    #[arg(long = "log_backtrace_at", value_name = "PLACE", hide = true)]
    pub log_backtrace_at: Option<String>,

    /// The same as --store=kube: nodes have their subnets from Kubernetes, and say in their annotations how they are reached
    #[arg(long, value_parser = syntax::boolean, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", help_heading = "Kubernetes")]
    pub kube_subnet_mgr: bool,

    /// URL of the API server; without, the kubeconfig's, or that of the cluster whose pod this is
    #[arg(long, value_name = "URL", help_heading = "Kubernetes")]
    pub kube_api_url: Option<String>,

    /// Prefix of the nodes' annotations
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = DEFAULT_ANNOTATION_PREFIX,
        help_heading = "Kubernetes"
    )]
    pub kube_annotation_prefix: String,

    /// The kubeconfig file; without, the credentials of the pod
    #[arg(long, value_name = "FILE", help_heading = "Kubernetes")]
    pub kubeconfig_file: Option<PathBuf>,

    /// File with the network config, if leases are in Kubernetes
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/kube-flannel/net-conf.json",
        help_heading = "Kubernetes"
    )]
    pub net_config_path: PathBuf,

    /// Set the node's condition NetworkUnavailable to false when ready
    #[arg(long, value_parser = syntax::boolean, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Kubernetes")]
    pub set_node_network_unavailable: bool,
}

impl Options {
    /// How plugins are loaded: compiled by a child that is this program, within the limits that are given.
    pub fn loader(&self) -> Loader {
        let limits = CompileLimits {
            memory: u64::from(self.plugin_compile_memory) << 20,
            time: Duration::from_secs(self.plugin_compile_time.into()),
        };
        Loader::new(&self.cache_dir, &self.state_dir, Compiler::Child(limits))
    }

    /// etcd's endpoints for people, without what may be a password.
    pub fn shown_endpoints(&self) -> String {
        let endpoints = self.etcd_endpoints.iter().filter(|endpoint| !endpoint.is_empty());
        endpoints.map(|endpoint| without_credentials(endpoint)).collect::<Vec<_>>().join(", ")
    }

    /// Which Kubernetes cluster it is, for people.
    pub fn shown_cluster(&self) -> String {
        let file = || self.kubeconfig_file.as_ref().map(|file| file.display().to_string());
        let url = self.kube_api_url.as_deref().map(without_credentials);
        url.or_else(file).unwrap_or_else(|| "the cluster of this pod".to_owned())
    }

    /// What is logged, as a filter's directives.
    pub fn log_directives(&self) -> String {
        match &self.log_level {
            Some(level) if level.contains([',', '=', '[']) => level.clone(),
            // A level alone is for our own lines; what the libraries say below a warning has to be asked for by their names.
            Some(level) => format!("warn,flanneld={level}"),
            None if self.v >= 6 => "warn,flanneld=trace".to_owned(),
            None if self.v >= 4 => "warn,flanneld=debug".to_owned(),
            None => "warn,flanneld=info".to_owned(),
        }
    }
}

/// Which lease store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// etcd, with upstream's keys.
    Etcd,
    /// A directory.
    File(PathBuf),
    /// The nodes of a Kubernetes cluster.
    Kube,
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
        None if text == "kube" => Ok(Store::Kube),
        Some(("file", directory)) if !directory.is_empty() => Ok(Store::File(directory.into())),
        _ => Err("a store is `etcd`, `file:DIR` or `kube`".to_owned()),
    }
}

fn parse_network(text: &str) -> Result<IpNet, String> {
    prefix::either(text.trim())
        .ok_or_else(|| "a network is an address and a prefix length, such as 10.5.0.0/16".to_owned())
}

/// What the kernel takes as an interface's name (`dev_valid_name`).
fn parse_interface_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    let is_name = (1..=15).contains(&name.len())
        && ![".", ".."].contains(&name)
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if is_name {
        Ok(name.to_owned())
    } else {
        Err("an interface's name has 1 to 15 bytes, without blanks, / and :, such as eth1".to_owned())
    }
}

pub(super) fn parse_plugin_option(text: &str) -> Result<(String, String), String> {
    let is_name = |name: &str| {
        let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        (1..=64).contains(&name.len()) && name.bytes().all(of_a_name)
    };
    match text.split_once('=') {
        Some((name, value)) if is_name(name) => Ok((name.to_owned(), value.to_owned())),
        Some((name, _)) => {
            Err(format!("{name:?} is no name of an option: 1 to 64 letters, digits, -, _, . and /"))
        }
        None => Err("an option of a plugin is NAME=VALUE, such as zone=a".to_owned()),
    }
}

fn parse_offloads(text: &str) -> Result<Offloads, String> {
    let mut offloads = Offloads::NONE;
    if text == "none" {
        return Ok(offloads);
    }
    for name in text.split(',').map(str::trim) {
        match name {
            "tso" => offloads.tso = true,
            "gso" => offloads.gso = true,
            "gro" => offloads.gro = true,
            _ => return Err(format!("{name:?} is no offload; there are tso, gso and gro, or none")),
        }
    }
    Ok(offloads)
}

/// Without blanks. What is empty is left out later: a comma too many is no mistake. `Infallible`, since the store knows what is wrong with
/// an endpoint, and does not show what may be a password.
#[expect(clippy::unnecessary_wraps, reason = "what clap asks of a parser")]
fn parse_endpoint(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(text.trim().to_owned())
}

fn parse_level(text: &str) -> Result<String, String> {
    text.parse::<tracing_subscriber::EnvFilter>()
        .map(|_| text.to_owned())
        .map_err(|error| format!("{error}; a level is error, warn, info, debug or trace"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, definition, parse};

    fn options(arguments: &[&str]) -> Result<Options, clap::Error> {
        let all = std::iter::once("flanneld").chain(arguments.iter().copied());
        parse(all.map(Into::into)).map(|Cli { options, .. }| options)
    }

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn options_of_plugins_are_names_with_values() {
        let given = options(&["--plugin-option=zone=a,topology.example/rack=7=b", "--plugin-option=empty="]);
        let wanted = [("zone", "a"), ("topology.example/rack", "7=b"), ("empty", "")];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(given.expect("right").plugin_option, wanted);
        for wrong in ["zone", "=a", "zo ne=a", ",", &format!("{}=a", "z".repeat(65))] {
            let error = options(&[&format!("--plugin-option={wrong}")]).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|error| error.contains("NAME=VALUE")), "{wrong}: {error:?}");
        }
    }

    #[test]
    fn uplinks_are_names_of_interfaces() {
        let given = options(&["--uplink=eth1,bond0.7", "--uplink", "ens3"]).expect("right");
        assert_eq!(given.uplinks, ["eth1", "bond0.7", "ens3"]);
        for wrong in ["eth1,", "a/b", "a b", "..", "sixteen-letters-"] {
            let error = options(&[&format!("--uplink={wrong}")]).err().map(|error| error.to_string());
            assert!(
                error.as_ref().is_some_and(|error| error.contains("an interface's name")),
                "{wrong}: {error:?}"
            );
        }
    }

    #[test]
    fn every_flag_of_upstream_is_there() {
        let upstream = "etcd-endpoints etcd-prefix etcd-keyfile etcd-certfile etcd-cafile etcd-username etcd-password iface \
            iface-regex iface-can-reach subnet-file public-ip public-ipv6 subnet-lease-renew-margin ip-masq \
            ip-masq-fully-random-disable kube-subnet-mgr kube-api-url kube-annotation-prefix kubeconfig-file version healthz-ip \
            healthz-port iptables-resync iptables-forward-rules ip-blackhole-route net-config-path \
            set-node-network-unavailable v vmodule log_backtrace_at";
        let definition = definition();
        for name in upstream.split_whitespace() {
            assert!(definition.get_arguments().any(|flag| flag.get_long() == Some(name)), "--{name}");
        }
    }

    #[test]
    fn the_defaults_are_upstreams() {
        let options = options(&[]).expect("accepted");
        assert_eq!(options.etcd_endpoints, ["http://127.0.0.1:4001", "http://127.0.0.1:2379"]);
        assert_eq!(
            (options.ip_masq, options.iptables_forward_rules, options.iptables_resync),
            (false, true, 5)
        );
        assert_eq!((options.healthz_port, options.subnet_lease_renew_margin), (0, 60));
    }

    #[test]
    fn switches_take_a_value_behind_an_equals_sign() {
        assert!(options(&["-ip-masq"]).expect("accepted").ip_masq);
        assert!(!options(&["--ip-masq=F"]).expect("accepted").ip_masq);
        assert!(!options(&["--iptables-forward-rules=false"]).expect("accepted").iptables_forward_rules);
        assert!(options(&["--ip-masq=yes"]).is_err());
    }

    #[test]
    fn of_a_flag_that_comes_twice_the_last_counts_and_interfaces_add_up() {
        let options = options(&["-v=1", "-v=4", "--iface=a", "-iface", "b"]).expect("accepted");
        assert_eq!((options.v, options.iface), (4, vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn unknown_flags_and_wrong_values_are_refused() {
        for wrong in
            ["-nope", "--iptables-resync=0", "--iptables-resync=abc", "--subnet-lease-renew-margin=1440"]
        {
            let error = options(&[wrong]).err().expect("refused");
            let name = wrong.trim_start_matches('-').split('=').next().expect("a name");
            assert!(error.to_string().contains(name), "{wrong}: {error}");
            assert_ne!(error.exit_code(), 0);
        }
    }

    #[test]
    fn the_cni_configuration_has_a_source_and_a_place() {
        let both = ["--cni-conf-from=/a/cni-conf.json", "--cni-conf-to", "/b/10-flannel.conflist"];
        let given = options(&both).expect("accepted");
        assert_eq!(given.cni_conf_from, Some("/a/cni-conf.json".into()));
        assert_eq!(given.cni_conf_to, Some("/b/10-flannel.conflist".into()));
        for (alone, missing) in [(&both[..1], "--cni-conf-to"), (&both[1..], "--cni-conf-from")] {
            let error = options(alone).err().expect("refused").to_string();
            assert!(error.contains(missing), "{error}");
        }
    }

    #[test]
    fn offloads_are_listed_by_name() {
        assert_eq!(options(&[]).expect("accepted").tunnel_offloads, Offloads::ALL);
        assert_eq!(parse_offloads("none"), Ok(Offloads::NONE));
        assert_eq!(parse_offloads("gso, gro"), Ok(Offloads { tso: false, gso: true, gro: true }));
        for wrong in ["", "lro", "tso,none"] {
            assert!(parse_offloads(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn blanks_and_a_comma_too_many_are_no_endpoints() {
        let options =
            options(&["--etcd-endpoints", "HTTP://a:2379 , http://u:canary@b:2379,"]).expect("accepted");
        assert_eq!(options.shown_endpoints(), "HTTP://a:2379, http://(hidden)@b:2379");
    }

    #[test]
    fn no_password_of_a_url_is_shown() {
        for (arguments, refused) in [
            (&["--etcd-endpoints=http://u:canary@h:2379,u:canary@h2"][..], false),
            (&["--kube-api-url=https://u:canary@h"], false),
            (&["--cloud-endpoint=aws:ec2=https://u:canary@h"], true),
            (&["--plugin=oci://u:canary@r/p"], true),
            (&["--iface-can-reach=http://u:canary@h"], true),
            (&["http://u:canary@h:2379"], true),
            (&["--ip-masq", "http://u:canary@h:2379"], true),
        ] {
            let all = std::iter::once("flanneld").chain(arguments.iter().copied());
            let said = match parse(all.map(Into::into)) {
                Ok(cli) => (cli.given.join(" "), false),
                Err(error) => (error.to_string(), true),
            };
            assert!(said.1 == refused && !said.0.contains("canary"), "{arguments:?}: {}", said.0);
            assert!(said.0.contains("(hidden)@"), "{arguments:?}: {}", said.0);
        }
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
