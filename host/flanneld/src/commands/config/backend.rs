//! What the backend of a config would be on this node: the plugin, its devices, and what is in their way. Nothing is changed.

use std::sync::Arc;

use flannel_cloud::Endpoints;
use flannel_datapath::Probe;
use flannel_model::entry::DeviceSpec;
use flannel_model::lease::Subnets;
use flannel_model::network_config::NetworkConfig;
use flannel_model::spelling::nearest;
use flannel_plugin_devkit::inspect::{Inspection, inspect};
use flannel_plugin_devkit::preview::{Preview, preview};
use flannel_plugin_host::{Artifact, EndpointGrants, Grants, NodeInfo, extract_secrets};
use flanneld::cli::{Options, Store};
use flanneld::node::name::host_name;
use flanneld::node::{prospect, uplinks};
use serde::Serialize;

use super::in_force::InForce;
use super::report::Unread;
use crate::BUILT_IN;

/// The capabilities of plugins that ask a cloud, or another API.
const ASKING: [&str; 2] = ["cloud", "http"];
/// The options of all built-in plugins, for those that are misspelt.
const OPTIONS: [&str; 20] = [
    "Type",
    "VNI",
    "Port",
    "MTU",
    "Learning",
    "GBP",
    "DirectRouting",
    "ListenPort",
    "ListenPortV6",
    "PSK",
    "PreStartupCommand",
    "PostStartupCommand",
    "SubnetAddCommand",
    "SubnetRemoveCommand",
    "PersistentKeepaliveInterval",
    "Mode",
    "RouteTableID",
    "AccessKeyID",
    "AccessKeySecret",
    "NetworkID",
];

/// The backend as it would be.
#[derive(Debug, Default, Serialize)]
pub(super) struct Backend {
    /// Its type.
    pub r#type: String,
    /// Who would serve it.
    pub plugin: Option<Plugin>,
    /// Its devices; none: that is not known.
    pub devices: Option<Vec<Device>>,
    /// Bytes of the largest packet of a pod.
    pub mtu: Option<u32>,
    /// The same as it is now.
    pub mtu_in_force: Option<u32>,
    /// Why it could not start.
    #[serde(skip)]
    pub problems: Vec<String>,
    /// What is worth knowing.
    #[serde(skip)]
    pub notes: Vec<String>,
    /// Options that nobody reads.
    #[serde(skip)]
    pub unread: Vec<Unread>,
}

/// A plugin.
#[derive(Debug, Serialize)]
pub(super) struct Plugin {
    /// As it calls itself.
    pub name: String,
    /// Its version.
    pub version: String,
    /// A file, a registry, or that it is built in.
    pub source: String,
    /// SHA-256 of the component, in hexadecimal digits.
    pub digest: String,
    /// What it asks for.
    pub asks_for: Vec<String>,
    /// What of that it is not granted.
    pub missing: Vec<String>,
}

/// A device.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Device {
    /// Its name.
    pub name: String,
    /// `vxlan`, `ipip`, `wireguard`, `tunnel`, `ipsec`, or as ip-link(8) calls it: `gre`, `sit`, `vlan` and so on.
    pub kind: &'static str,
    /// The VXLAN network identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// Its UDP port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Bytes of the largest packet.
    pub mtu: u32,
}

impl Device {
    fn of(spec: &DeviceSpec) -> Self {
        let (kind, vni, port) = match spec {
            DeviceSpec::Vxlan(vxlan) => ("vxlan", Some(vxlan.vni), Some(vxlan.port)),
            DeviceSpec::Ipip(_) => ("ipip", None, None),
            DeviceSpec::Wireguard(wireguard) => ("wireguard", None, Some(wireguard.port)),
            DeviceSpec::Tunnel(tunnel) => ("tunnel", None, Some(tunnel.port)),
            DeviceSpec::Ipsec(ipsec) => ("ipsec", None, ipsec.udp_port),
            DeviceSpec::TunnelLink(link) => (link.kind_name(), None, link.port()),
        };
        Self { name: spec.name().to_string(), kind, vni, port, mtu: spec.mtu() }
    }
}

impl Backend {
    /// Looks at the backend of a config, as far as it gets.
    pub(super) async fn look(options: &Options, config: &NetworkConfig, in_force: &InForce) -> Self {
        let mut backend = Self {
            r#type: config.backend_type.clone(),
            mtu_in_force: in_force.mtu(options),
            ..Self::default()
        };
        // What is said here is an error or nothing.
        let Err(problem) = backend.try_look(options, config, in_force).await else { return backend };
        backend.problems.push(problem);
        backend
    }

    async fn try_look(
        &mut self,
        options: &Options,
        config: &NetworkConfig,
        in_force: &InForce,
    ) -> Result<(), String> {
        extract_secrets(&config.backend_type, config.backend.get())?;
        let grants = Grants::new(options.plugin_grants.clone(), options.allow.clone(), BUILT_IN);
        let mut artifact = load(options, &config.backend_type, &grants).await?;
        self.note_another_plugin(options, in_force);
        let mut inspection = inspect(&artifact, &grants)?;
        let is_there = BUILT_IN.iter().any(|plugin| plugin.backend_type == config.backend_type);
        if !inspection.backend_types.contains(&config.backend_type) && is_there {
            // As the daemon does it.
            let offered = inspection.backend_types.join(", ");
            self.notes.push(format!("the plugin of --plugin is for {offered}: the built-in one would serve"));
            let built_in = Artifact::built_in(&config.backend_type, BUILT_IN);
            artifact = built_in.map_err(|error| error.to_string())?;
            inspection = inspect(&artifact, &grants)?;
        }
        let asks_for_labels = inspection.imports.iter().any(|import| import.interface == "node-info");
        let asks = inspection.imports.iter().any(|import| ASKING.contains(&import.interface.as_str()));
        self.problems.extend(missing_endpoint(options, &inspection.endpoints));
        let offered = inspection.backend_types.join(", ");
        let is_for_it = inspection.backend_types.contains(&config.backend_type);
        let refusal = inspection.refusal.clone();
        let shown = Plugin::of(inspection);
        let name = format!("plugin {} ({})", shown.name, shown.source);
        self.plugin = Some(shown);
        if let Some(refusal) = refusal {
            self.problems.push(format!("{name}: {refusal}"));
        }
        if !is_for_it {
            return Err(format!(
                "{name} is for the backend types {offered}, not for {:?}: name another one with --plugin",
                config.backend_type
            ));
        }
        let facts = prospect::facts(
            options,
            config,
            in_force.daemon.as_ref().and_then(|status| status.node.as_ref()),
        );
        let facts = facts.await.map_err(|error| error.to_string())?;
        if artifact.runs_commands() {
            let note = "commands are not run here; a flanneld that runs does so with new ones after a restart, or with --allow-commands";
            self.notes.push(note.to_owned());
        }
        if asks {
            let note = "what it would have on this node is not known here: it asks the cloud for that, and changes things there";
            self.notes.push(note.to_owned());
            return Ok(());
        }
        if asks_for_labels && options.store == Store::Kube {
            let note = "what it would have on this node is not known here: it asks for the labels of the node's object";
            self.notes.push(note.to_owned());
            return Ok(());
        }
        let subnets = in_force.subnets().filter(|subnets| fit(subnets, config));
        let about = Arc::new(NodeInfo::new(host_name(), options.plugin_option.iter().cloned().collect()));
        let probe = Probe::open().map_err(|error| error.to_string())?;
        let uplinks = uplinks::look_at(&probe, &uplinks::named(options, &facts.interface))?;
        let preview = preview(&artifact, (&facts, &about, uplinks), subnets, config.backend.get())?;
        self.take(options, config, in_force, preview, &facts.interface);
        Ok(())
    }

    fn note_another_plugin(&mut self, options: &Options, in_force: &InForce) {
        let running = in_force.daemon.as_ref().and_then(|daemon| daemon.plugin.as_ref());
        if let Some(plugin) =
            running.filter(|plugin| options.plugin.is_none() && !plugin.source.starts_with("built"))
        {
            self.notes.push(format!(
                "this node's daemon runs a plugin of its own, {}: if it has --plugin, give it here, too",
                plugin.source
            ));
        }
    }

    fn take(
        &mut self,
        options: &Options,
        config: &NetworkConfig,
        in_force: &InForce,
        preview: Preview,
        external: &str,
    ) {
        let Preview { mtu, devices, unread } = preview;
        self.mtu = Some(mtu);
        self.devices = Some(devices.iter().map(Device::of).collect());
        self.unread = unread
            .into_iter()
            .map(|option| Unread {
                meant: nearest(&option, &OPTIONS).map(ToOwned::to_owned),
                field: format!("Backend.{option}"),
            })
            .collect();
        let tunnels = in_force.daemon.iter().filter_map(|daemon| daemon.datapath.as_ref());
        let ports: Vec<u16> =
            tunnels.flat_map(|datapath| &datapath.tunnels).map(|tunnel| tunnel.port).collect();
        let networks = prospect::networks(options, config);
        let probe = match Probe::open() {
            Ok(probe) => probe,
            Err(error) => {
                return self.notes.push(format!("what is in the way of its devices cannot be seen: {error}"));
            }
        };
        for device in &devices {
            let name = device.name();
            match probe.obstacles(device, &networks, &ports, external) {
                Ok(obstacles) => {
                    self.problems
                        .extend(obstacles.into_iter().map(|obstacle| format!("device {name}: {obstacle}")));
                }
                Err(error) => {
                    self.notes.push(format!("what is in the way of {name} cannot be seen: {error}"));
                }
            }
        }
    }
}

impl Plugin {
    fn of(inspection: Inspection) -> Self {
        let asked = inspection.imports.iter().filter(|import| import.granted.is_some());
        let mut asks_for: Vec<String> = asked.map(|import| import.interface.clone()).collect();
        asks_for.extend(inspection.operations.iter().map(|operation| operation.operation.clone()));
        Self {
            name: inspection.name,
            version: inspection.version,
            source: inspection.source,
            digest: inspection.digest,
            asks_for,
            missing: inspection.missing,
        }
    }
}

/// Whether a node could have these subnets with a config.
fn fit(subnets: &Subnets, config: &NetworkConfig) -> bool {
    let v4 = config.network.filter(|_| config.enable_ipv4);
    let v6 = config.ipv6_network.filter(|_| config.enable_ipv6);
    let v4_fits = match (v4, subnets.v4) {
        (Some(network), Some(subnet)) => network.contains(&subnet),
        (network, subnet) => network.is_none() && subnet.is_none(),
    };
    let v6_fits = match (v6, subnets.v6) {
        (Some(network), Some(subnet)) => network.contains(&subnet),
        (network, subnet) => network.is_none() && subnet.is_none(),
    };
    v4_fits && v6_fits
}

/// What is wrong with the file of endpoints, or that one is missing there which the plugin is granted.
fn missing_endpoint(options: &Options, granted: &[String]) -> Option<String> {
    let there = match options.http_endpoints.as_deref().map(Endpoints::read).transpose() {
        Ok(read) => read.unwrap_or_default().names().map(str::to_owned).collect::<Vec<_>>(),
        Err(error) => return Some(error.to_string()),
    };
    let granted = EndpointGrants::Only(granted.iter().cloned().collect());
    granted.check(&there).err().map(|error| error.to_string())
}

/// Loads the plugin that would serve: the one that the operator names, or the built-in one.
async fn load(options: &Options, backend_type: &str, grants: &Grants) -> Result<Artifact, String> {
    let Some(reference) = &options.plugin else {
        return Artifact::built_in(backend_type, BUILT_IN).map_err(|error| error.to_string());
    };
    let keys = grants.trusted_keys().map_err(|error| error.to_string())?;
    let loader = options.loader().with_built_in(BUILT_IN).with_keys(keys);
    loader.load(reference).await.map_err(|error| error.to_string())
}
