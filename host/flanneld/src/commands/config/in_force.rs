//! The config that is in force: what the daemon of this node says, and what the store has.

use std::fmt::Write as _;
use std::path::Path;

use flannel_lease_store::{LeaseStore, StoreError};
use flannel_model::canonical::canonical;
use flannel_model::lease::Subnets;
use flannel_model::network_config::{ConfigError, NetworkConfig};
use flannel_telemetry::control::ask_status;
use flannel_telemetry::{ObserveError, Status, status};
use flanneld::cli::{Options, Store};
use flanneld::node::subnet_file;
use flanneld::store;
use ipnet::IpNet;

use super::secrets::{self, without_secrets};

/// What the daemon calls the mode of its firewall then.
const NFTABLES: &str = "nftables";

/// What is in force here.
#[derive(Debug, Default)]
pub(super) struct InForce {
    /// What the daemon of this node says, if one runs.
    pub daemon: Option<Status>,
    /// Where the store has its config, for messages.
    pub place: String,
    /// What the store has; none: nothing.
    pub stored: Option<String>,
    /// Why that is not known.
    pub unread: Option<StoreError>,
    /// Who says what is in force; none: it is not known.
    pub source: Option<&'static str>,
    /// The config, as far as it is known.
    pub config: Option<NetworkConfig>,
    /// Its `Backend` section in canonical form.
    pub backend: Option<String>,
    /// That has placeholders for its secrets.
    pub is_shown: bool,
    /// Somebody else assigns nodes their subnets: they do not choose.
    pub is_assigned: bool,
    /// Fields of the config of which nothing is known.
    pub unknown: Vec<&'static str>,
    /// That the daemon has its config in another store than the one that is named.
    pub elsewhere: Option<String>,
    /// What is worth knowing, in words.
    pub notes: Vec<String>,
}

impl InForce {
    /// Asks the daemon and the store.
    pub(super) async fn find(options: &Options) -> Self {
        let mut found = Self { is_assigned: options.store == Store::Kube, ..Self::default() };
        match ask_status(&options.control_socket) {
            Ok(status) => found.daemon = Some(status),
            Err(error @ ObserveError::NoDaemon { .. }) => found.notes.push(error.to_string()),
            Err(error) => found.notes.push(format!("this node's daemon cannot be asked: {error}")),
        }
        match store::open(options) {
            Ok(store) => found.read(&*store).await,
            Err(error) => found.unread = Some(error),
        }
        found.elsewhere = found.daemon.as_ref().and_then(|daemon| elsewhere(&daemon.store, &options.store));
        found.notes.extend(found.elsewhere.clone());
        found.conclude();
        found
    }

    /// Reads a config as the nodes do.
    pub(super) fn parse(&self, text: &str) -> Result<NetworkConfig, ConfigError> {
        parse(text, self.is_assigned)
    }

    async fn read(&mut self, store: &dyn LeaseStore) {
        self.place = store.config_place();
        match store.network_config().await {
            Ok(text) => self.stored = Some(text),
            Err(StoreError::NoConfig { .. }) => {}
            Err(error) => self.unread = Some(error),
        }
    }

    /// Puts together what is in force. The daemon knows; what it does not tell the store has, if both agree as far as it does.
    fn conclude(&mut self) {
        if let Some(error) = &self.unread {
            self.notes.push(format!("the network config in the store cannot be read: {error}"));
        }
        let stored = self.stored.as_deref().map(|text| self.parse(text));
        if let Some(Err(error)) = &stored {
            self.notes.push(format!("{} has a network config that is wrong: {error}", self.place));
        }
        let stored = stored.and_then(Result::ok);
        let Some(daemon) = &self.daemon else {
            self.source = stored.as_ref().map(|_| "the store");
            self.backend = stored.as_ref().map(|config| canonical(config.backend.get()));
            self.config = stored;
            return;
        };
        let refused = daemon.config.as_ref().and_then(|config| config.refused.as_ref());
        if let Some(reason) = refused {
            self.notes.push(format!("this node has not taken up what {} has: {reason}", self.place));
        }
        if let Some(change) = &daemon.change {
            self.notes.push(format!("a change is going on: {change}"));
        }
        let agree = stored
            .as_ref()
            .is_some_and(|stored| refused.is_none() && agrees(stored, daemon, self.is_assigned));
        let full = stored.as_ref().map(|config| canonical(config.backend.get()));
        let shown = daemon.config.as_ref().map(|config| secrets::told(&config.backend));
        (self.backend, self.is_shown) = match shown.filter(|shown| !shown.is_empty()) {
            Some(shown) => match full.filter(|full| without_secrets(full).as_ref() == Some(&shown)) {
                Some(full) => (Some(full), false),
                None => (Some(shown), true),
            },
            None => (full, false),
        };
        (self.config, self.unknown) =
            if agree { (stored, Vec::new()) } else { (told(daemon, self.is_assigned), untold(daemon)) };
        self.source = self.config.as_ref().map(|_| "this node's daemon");
    }

    /// Bytes of the largest packet of a pod.
    pub(super) fn mtu(&self, options: &Options) -> Option<u32> {
        let told = self.daemon.as_ref().and_then(|daemon| daemon.lease.as_ref()).map(|lease| lease.mtu);
        told.filter(|mtu| *mtu > 0).or_else(|| {
            let variables = subnet_file::variables(&options.subnet_file).ok()?;
            let (_, mtu) = variables.into_iter().find(|(name, _)| name == "FLANNEL_MTU")?;
            mtu.parse().ok()
        })
    }

    /// This node's subnets.
    pub(super) fn subnets(&self) -> Option<Subnets> {
        let lease = self.daemon.as_ref()?.lease.as_ref()?;
        let (mut v4, mut v6) = (None, None);
        for subnet in &lease.subnets {
            match subnet {
                IpNet::V4(subnet) => v4 = Some(*subnet),
                IpNet::V6(subnet) => v6 = Some(*subnet),
            }
        }
        (v4.is_some() || v6.is_some()).then_some(Subnets { v4, v6 })
    }
}

/// Says where a daemon has its config, if that is certainly not where the options say. Of one etcd there are many endpoints.
fn elsewhere(has: &status::Store, named: &Store) -> Option<String> {
    let (kind, is_same) = match named {
        Store::Etcd => ("etcd", true),
        Store::File(directory) => ("file", is_same_place(Path::new(&has.place), directory)),
        Store::Kube => ("kube", true),
    };
    let is_known = !has.kind.is_empty();
    let shown = |kind: &str, place: &str| {
        if kind == "file" { format!("--store=file:{place}") } else { format!("--store={kind} ({place})") }
    };
    (is_known && (has.kind != kind || !is_same)).then(|| {
        format!(
            "this node's daemon has its network config elsewhere: give its {} here, too",
            shown(&has.kind, &has.place)
        )
    })
}

fn is_same_place(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}

/// Whether a config is the one that a daemon tells of.
fn agrees(config: &NetworkConfig, daemon: &Status, is_assigned: bool) -> bool {
    let Some(network) = &daemon.network else { return false };
    let v4 = config.network.filter(|_| config.enable_ipv4).map(IpNet::V4);
    let v6 = config.ipv6_network.filter(|_| config.enable_ipv6).map(IpNet::V6);
    let lengths = daemon.lease.as_ref().is_none_or(|lease| {
        lease.subnets.iter().all(|subnet| {
            subnet.prefix_len()
                == if subnet.addr().is_ipv4() { config.subnet_len } else { config.ipv6_subnet_len }
        })
    });
    let firewall = daemon.firewall.as_ref();
    let mode = firewall.is_none_or(|firewall| (firewall.mode == NFTABLES) == config.enable_nftables);
    (network.ipv4, network.ipv6) == (v4, v6) && (lengths || is_assigned) && mode
}

fn parse(text: &str, is_assigned: bool) -> Result<NetworkConfig, ConfigError> {
    if is_assigned { NetworkConfig::parse_for_assigned_subnets(text) } else { NetworkConfig::parse(text) }
}

/// What a daemon does not tell of its config.
fn untold(daemon: &Status) -> Vec<&'static str> {
    let mut untold = vec!["SubnetMin", "SubnetMax", "IPv6SubnetMin", "IPv6SubnetMax"];
    if daemon.lease.is_none() {
        untold.extend(["SubnetLen", "IPv6SubnetLen"]);
    }
    if daemon.firewall.is_none() {
        untold.push("EnableNFTables");
    }
    untold
}

/// The config that a daemon has, as far as it tells.
fn told(daemon: &Status, is_assigned: bool) -> Option<NetworkConfig> {
    let network = daemon.network.as_ref()?;
    let subnets = daemon.lease.as_ref().map(|lease| lease.subnets.as_slice()).unwrap_or_default();
    let length =
        |v4: bool| subnets.iter().find(|subnet| subnet.addr().is_ipv4() == v4).map(IpNet::prefix_len);
    let mut text =
        format!(r#"{{"EnableIPv4":{},"EnableIPv6":{}"#, network.ipv4.is_some(), network.ipv6.is_some());
    let families = [("", network.ipv4, length(true)), ("IPv6", network.ipv6, length(false))];
    for (prefix, network, length) in families {
        if let Some(network) = network {
            let _ = write!(text, r#","{prefix}Network":"{network}""#);
        }
        if let Some(length) = length {
            let _ = write!(text, r#","{prefix}SubnetLen":{length}"#);
        }
    }
    let nftables = daemon.firewall.as_ref().is_some_and(|firewall| firewall.mode == NFTABLES);
    let _ = write!(text, r#","EnableNFTables":{nftables}"#);
    if let Some(config) = daemon.config.as_ref().filter(|config| !config.backend.is_empty()) {
        let _ = write!(text, r#","Backend":{}"#, config.backend);
    }
    parse(&(text + "}"), is_assigned).ok()
}

#[cfg(test)]
mod tests {
    use flannel_telemetry::status::{Config, Firewall, Lease, Network};

    use super::*;

    const STORED: &str =
        r#"{"Network":"10.5.0.0/16","SubnetMax":"10.5.99.0","Backend":{"Type":"vxlan","VNI":7}}"#;

    fn daemon(network: &str, subnet: &str, backend: &str) -> Status {
        Status {
            network: Some(Network { ipv4: network.parse().ok(), ipv6: None }),
            lease: Some(Lease {
                subnets: vec![subnet.parse().expect("subnet")],
                mtu: 1450,
                ..Lease::default()
            }),
            config: Some(Config { refused: None, backend: backend.to_owned() }),
            ..Status::default()
        }
    }

    fn concluded(daemon: Option<Status>, stored: Option<&str>) -> InForce {
        let mut found = InForce {
            daemon,
            stored: stored.map(ToOwned::to_owned),
            place: "here".to_owned(),
            ..InForce::default()
        };
        found.conclude();
        found
    }

    #[test]
    fn without_a_daemon_it_is_what_the_store_has() {
        let found = concluded(None, Some(STORED));
        assert_eq!(found.backend.as_deref(), Some(r#"{"Type":"vxlan","VNI":7}"#));
        assert_eq!((found.source, found.config.is_some()), (Some("the store"), true));
        let none = concluded(None, None);
        assert!(none.config.is_none() && none.backend.is_none() && none.source.is_none());
        let wrong = concluded(None, Some("{"));
        assert!(wrong.config.is_none() && wrong.notes[0].contains("here has a network config that is wrong"));
    }

    #[test]
    fn where_both_agree_the_store_says_the_rest() {
        let backend = r#"{"Type":"vxlan","VNI":7}"#;
        let found = concluded(Some(daemon("10.5.0.0/16", "10.5.7.0/24", backend)), Some(STORED));
        let config = found.config.expect("a config");
        assert_eq!((config.subnet_max, found.unknown.len()), ([10, 5, 99, 0].into(), 0));
    }

    #[test]
    fn where_they_do_not_agree_the_daemon_counts_as_far_as_it_tells() {
        let backend = r#"{"Type":"host-gw"}"#;
        let with_firewall = |mode: &str| {
            let firewall = Some(Firewall { mode: mode.to_owned(), ..Firewall::default() });
            Status { firewall, ..daemon("10.5.0.0/16", "10.5.7.0/24", backend) }
        };
        let mut refusing = daemon("10.5.0.0/16", "10.5.7.0/24", backend);
        refusing.config = Some(Config { refused: Some("it is not".to_owned()), backend: backend.to_owned() });
        for (status, network, len, nftables) in [
            (daemon("10.6.0.0/16", "10.6.7.0/24", backend), [10, 6, 0, 0], 24, false),
            (daemon("10.5.0.0/16", "10.5.7.0/25", backend), [10, 5, 0, 0], 25, false),
            (with_firewall(NFTABLES), [10, 5, 0, 0], 24, true),
            (refusing, [10, 5, 0, 0], 24, false),
        ] {
            let knows_firewall = status.firewall.is_some();
            let found = concluded(Some(status), Some(STORED));
            let config = found.config.expect("a config");
            assert_eq!(config.network.map(|net| net.addr()), Some(network.into()));
            assert_eq!((config.subnet_len, config.enable_nftables), (len, nftables));
            assert_eq!(found.backend.as_deref(), Some(backend));
            assert!(found.unknown.contains(&"SubnetMax"));
            assert_eq!(found.unknown.contains(&"EnableNFTables"), !knows_firewall);
        }
    }

    #[test]
    fn a_daemon_that_tells_nothing_of_its_backend_has_the_stores() {
        let mut status = daemon("10.5.0.0/16", "10.5.7.0/24", "");
        status.config = None;
        let found = concluded(Some(status), Some(STORED));
        assert_eq!((found.backend.as_deref(), found.is_shown), (Some(r#"{"Type":"vxlan","VNI":7}"#), false));
    }

    #[test]
    fn secrets_are_the_stores_where_the_rest_is_the_same() {
        let key = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
        let stored = format!(r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"wireguard","PSK":"{key}"}}}}"#);
        let status = |backend: &str| Some(daemon("10.5.0.0/16", "10.5.7.0/24", backend));
        let shown = without_secrets(&format!(r#"{{"PSK":"{key}","Type":"wireguard"}}"#)).expect("a key");
        let found = concluded(status(&shown), Some(&stored));
        assert!(found.backend.is_some_and(|backend| backend.contains(key)) && !found.is_shown);
        let found = concluded(status(&shown), Some(STORED));
        assert_eq!((found.backend, found.is_shown), (Some(shown), true));
    }

    #[test]
    fn a_daemon_with_another_store_is_told_of() {
        let has = |kind: &str, place: &str| status::Store {
            kind: kind.to_owned(),
            place: place.to_owned(),
            ..status::Store::default()
        };
        let directory = Store::File("/srv/flannel".into());
        assert_eq!(
            elsewhere(&has("file", "/srv/../srv/flannel"), &Store::File("/srv/../srv/flannel".into())),
            None
        );
        assert_eq!(elsewhere(&has("etcd", "http://10.0.0.1:2379"), &Store::Etcd), None);
        assert_eq!(elsewhere(&status::Store::default(), &directory), None);
        let said = elsewhere(&has("file", "/srv/other"), &directory).expect("another");
        assert!(said.contains("--store=file:/srv/other"), "{said}");
        let said = elsewhere(&has("etcd", "http://10.0.0.1:2379"), &directory).expect("another");
        assert!(said.contains("--store=etcd (http://10.0.0.1:2379)"), "{said}");
    }
}
