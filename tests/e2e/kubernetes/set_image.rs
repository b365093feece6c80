//! `kubectl set image`: others' manifests as they are, with our image in the place of flannel's. The daemon runs with the container's own
//! command, variables, mounts and capabilities, and nothing else, and what its init containers copy is copied first.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use flannel_deploy::shapes::{self, Shape};
use flannel_deploy::workload::{self, Container};
use flannel_lab::contained::Contained;
use flannel_lab::control_plane::volume::{self, Volume};
use flannel_lab::control_plane::{self, ControlPlane, Mode};
use flannel_lab::forwarder::Forwarder;
use flannel_lab::kube_store::annotation;
use flannel_lab::log::Log;
use flannel_lab::sandbox::Sandbox;
use flannel_lab::subnet_env::SubnetEnv;
use flannel_lab::{Backend, Lab, Node, Place, Pod, Underlay, artifacts, http, wait};
use serde_json::Value;

/// Where the manifests that have probes have them.
const HEALTH: &str = "127.0.0.1:8081";
/// Bytes of a pod's largest packet where nobody says it: with vxlan.
const MTU: u32 = 1450;

/// Upstream's own manifests, and the copy that minikube has.
const MANIFESTS: &[&str] = &["release", "documentation", "minikube"];
/// Upstream's chart with vxlan.
const CHART: &[&str] = &["helm", "helm, vxlan with all values", "helm, dual stack", "helm, IPv6"];
/// The same with backends that take no module.
const WITHOUT_MODULE: &[&str] = &["helm, host-gw", "helm, udp", "helm, alloc"];
/// The same with WireGuard.
const WIREGUARD: &[&str] = &["helm, wireguard"];
/// The same with IPIP.
const IPIP: &[&str] = &["helm, ipip"];
/// Distributions' own.
const DISTRIBUTIONS: &[&str] = &["talos", "rke2-flannel", "canal"];

/// A control plane, and nodes of which each runs one manifest only.
struct Ground {
    // Before the lab, whose directory it writes to.
    plane: ControlPlane,
    lab: Lab,
}

impl Ground {
    fn start() -> Result<Option<Self>> {
        if let Some(reason) = control_plane::missing()? {
            flannel_test_support::skip(&reason);
            return Ok(None);
        }
        let lab = Lab::new(0, Underlay { ipv6: true, ..Underlay::default() })?;
        let plane = ControlPlane::start(&lab, Mode::Dual)?;
        plane.admin().apply_manifest()?;
        for account in ["flannel", "canal"] {
            plane.admin().apply_account("kube-system", account)?;
        }
        Ok(Some(Self { plane, lab }))
    }
}

/// What a network config asks for.
struct Asked {
    backend: String,
    ipv4: Option<String>,
    ipv6: Option<String>,
}

impl Asked {
    fn by(shape: &Shape) -> Result<Self> {
        let config: Value = serde_json::from_str(shape.network_config()?)?;
        let network = |key: &str| config[key].as_str().map(str::to_owned);
        Ok(Self {
            backend: config["Backend"]["Type"].as_str().context("no backend")?.to_owned(),
            ipv4: network("Network").filter(|_| config["EnableIPv4"] != false),
            ipv6: network("IPv6Network").filter(|_| config["EnableIPv6"] == true),
        })
    }

    fn backend(&self) -> Result<Backend> {
        self.backend.parse().map_err(anyhow::Error::msg)
    }

    /// The subnets of a node, IPv4 first.
    fn pod_cidrs(&self, number: usize) -> Vec<String> {
        let v4 = self.ipv4.as_ref().map(|network| network.replace(".0.0/16", &format!(".{number}.0/24")));
        let v6 = self.ipv6.as_ref().map(|network| network.replace("::/48", &format!(":{number}::/64")));
        v4.into_iter().chain(v6).collect()
    }
}

/// A node with the pod of a manifest's DaemonSet, as the kubelet has it.
struct Kubelet<'a> {
    ground: &'a Ground,
    shape: &'a Shape,
    node: &'a Node,
    pod: String,
    namespace: String,
    cidrs: Vec<String>,
    config_map: PathBuf,
    service_account: PathBuf,
}

impl<'a> Kubelet<'a> {
    fn new(ground: &'a Ground, shape: &'a Shape, node: &'a Node, cidrs: Vec<String>) -> Result<Self> {
        let daemon_set = shape.daemon_set()?;
        let pod = format!("{}-{}", daemon_set["metadata"]["name"].as_str().context("no name")?, node.name());
        let namespace = daemon_set["metadata"]["namespace"].as_str().context("no namespace")?.to_owned();
        let admin = ground.plane.admin();
        let of_node: Vec<&str> = cidrs.iter().map(String::as_str).collect();
        admin.create_node(node.name(), &of_node, &[])?;
        let object = admin.create_pod_of(daemon_set, &pod, node.name())?;
        let place = |name: &str| node.directory().join("volumes").join(name);
        let (config_map, service_account) = (place("config-map"), place("service-account"));
        lay_out(&config_map, &shape.objects.only("ConfigMap")?["data"])?;
        std::fs::create_dir_all(&service_account)?;
        let token = admin.token_of(&object, 600)?;
        Volume::in_namespace(&namespace, &service_account, &ground.plane, &token)?;
        Ok(Self { ground, shape, node, pod, namespace, cidrs, config_map, service_account })
    }

    /// A place of the node.
    fn host(&self, path: &str) -> PathBuf {
        match path.trim_end_matches('/') {
            // Where the lab looks for the subnet file.
            "/run/flannel" => self.node.directory().join("run"),
            other => self.node.directory().join("host").join(other.trim_start_matches('/')),
        }
    }

    /// A program of a container.
    fn command(&self, container: &Container) -> Result<std::process::Command> {
        let root = self.node.directory().join("root");
        let capabilities = (!container.privileged).then_some(container.added.as_slice());
        let mut sandbox = Sandbox::new(&root, &artifacts::flanneld()?.canonicalize()?, capabilities)?;
        let volumes = workload::pod(self.shape.daemon_set()?)["volumes"].as_array().context("volumes")?;
        for (at, name) in &container.mounts {
            let volume = volumes.iter().find(|volume| volume["name"] == *name).context("no such volume")?;
            let Some(path) = volume["hostPath"]["path"].as_str() else {
                ensure!(volume["configMap"].is_object(), "{volume}: a volume of another kind");
                sandbox.mount_read_only(&self.config_map, at)?;
                continue;
            };
            let from = self.host(path);
            if volume["hostPath"]["type"] == "FileOrCreate" {
                std::fs::create_dir_all(from.parent().context("a place")?)?;
                std::fs::write(&from, "")?;
            } else {
                std::fs::create_dir_all(&from)?;
            }
            sandbox.mount(&from, at)?;
        }
        // `/var/run` is `/run`.
        sandbox.mount_read_only(&self.service_account, volume::PLACE.trim_start_matches("/var"))?;
        sandbox.command(self.node.namespace(), &container.command, &self.variables(container)?)
    }

    fn variables(&self, container: &Container) -> Result<Vec<(String, String)>> {
        let has_ipv4 = self.cidrs.iter().any(|cidr| !cidr.contains(':'));
        let server = if has_ipv4 { self.ground.plane.address() } else { self.ground.plane.address_v6() };
        let mut all: Vec<_> =
            self.ground.plane.variables(server).map(|(name, value)| (name.to_owned(), value)).into();
        for (name, field) in &container.fields {
            let value = match field.as_str() {
                "metadata.name" => &self.pod,
                "metadata.namespace" => &self.namespace,
                _ => bail!("{name}: {field}"),
            };
            all.push((name.clone(), value.clone()));
        }
        // Its own come last: they count.
        all.extend(
            container.variables.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))),
        );
        Ok(all)
    }

    /// Runs a container that has to end before the next one.
    fn run(&self, container: &Container) -> Result<()> {
        let output = self.command(container)?.stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{} {:?}: {said}", container.name, container.command);
        ensure!(said.is_empty(), "{}: {said}", container.name);
        Ok(())
    }

    /// What the init containers have put on the node: the CNI configuration as it is, and a plugin that a runtime can call.
    fn has_cni(&self, init: &[Container]) -> Result<()> {
        for [_, to] in init.iter().map(copied).collect::<Result<Vec<_>>>()? {
            let file = self.host(to);
            if to.ends_with("flannel") {
                let mut plugin = self.node.namespace().command(&file);
                let output = plugin.env("CNI_COMMAND", "VERSION").stdin(Stdio::null()).output()?;
                let answer: Value = serde_json::from_slice(&output.stdout).with_context(|| {
                    format!("{}: {}", file.display(), String::from_utf8_lossy(&output.stderr))
                })?;
                ensure!(answer["supportedVersions"].is_array(), "{answer}");
            } else {
                let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                ensure!(Some(text.as_str()) == self.shape.cni_config()?, "{text}");
            }
        }
        Ok(())
    }

    fn start(&self, container: &Container) -> Result<Contained> {
        let log = self.node.directory().join("flanneld.log");
        let daemon = Contained::start(self.node.name(), self.command(container)?, &log)?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).context("CapBnd")?;
        let held = u64::from_str_radix(line.trim(), 16)?;
        let expected = !container.privileged;
        // CAP_NET_ADMIN and CAP_NET_RAW, as all the manifests have it.
        ensure!(!expected || held & !(1 << 12 | 1 << 13) == 0, "it may do more than it should: {line}");
        Ok(daemon)
    }

    /// Waits until the node says how it is reached, that it has a network, and, where a probe asks, that it is ready.
    fn wait_up(&self, daemon: &mut Contained, container: &Container, asked: &Asked) -> Result<()> {
        let is_probed = container.command.iter().any(|argument| argument.starts_with("--healthz-port="));
        let what = format!("{} is up", self.node.name());
        wait::until_equal(&what, || {
            daemon.runs()?;
            let node = self.ground.plane.admin().node(self.node.name())?;
            let condition = super::daemon::condition(&node);
            let is_available =
                condition.is_some_and(|it| it["status"] == "False" && it["reason"] == "FlannelIsUp");
            let is_published = is_published(&node, self.node, asked);
            Ok((!is_available || !is_published)
                .then(|| format!("{condition:?}, {}", node["metadata"]["annotations"])))
        })
        .with_context(|| daemon.log().tail())?;
        if is_probed {
            for path in ["/healthz", "/readyz"] {
                let answer = http::get(self.node.namespace(), HEALTH.parse()?, path)?;
                ensure!(answer.status == 200, "{path}: {}", answer.body);
            }
        }
        Ok(())
    }

    /// A pod, by the subnet file if it is on the node, else by the podCIDR.
    fn wire(&self, container: &Container) -> Result<Pod> {
        if container.mounts("/run/flannel/subnet.env") {
            let env = self.node.subnet_env()?.context("no subnet file")?;
            ensure!(env.subnets() == self.cidrs, "{env:?} instead of {:?}", self.cidrs);
            return self.node.pod();
        }
        let first = |v6: bool| self.cidrs.iter().find(|cidr| cidr.contains(':') == v6);
        let gateway = first(false).map(|cidr| cidr.replace(".0/", ".1/").parse()).transpose()?;
        let gateway_v6 = first(true).map(|cidr| cidr.replace("::/", "::1/").parse()).transpose()?;
        self.node.pod_in(&SubnetEnv {
            text: String::new(),
            subnet: gateway,
            subnet_v6: gateway_v6,
            mtu: MTU,
            networks: Vec::new(),
            ip_masq: true,
        })
    }
}

fn is_published(object: &Value, node: &Node, asked: &Asked) -> bool {
    let is = |key: &str, expected: &str| annotation(object, key) == Some(expected);
    let data = match asked.backend.as_str() {
        "vxlan" => "VtepMAC",
        "wireguard" => "PublicKey",
        _ => "",
    };
    let has_data = |key: &str| annotation(object, key).is_some_and(|text| text.contains(data));
    // As upstream has it, these two are not named.
    let backend = if ["udp", "alloc"].contains(&asked.backend.as_str()) { "" } else { &asked.backend };
    let v6 = node.address_v6().map(|address| address.to_string()).unwrap_or_default();
    is("kube-subnet-manager", "true")
        && is("backend-type", backend)
        && (asked.ipv4.is_none() || is("public-ip", &node.address().to_string()) && has_data("backend-data"))
        && (asked.ipv6.is_none() || is("public-ipv6", &v6) && has_data("backend-v6-data"))
}

/// From where to where a container copies.
fn copied(container: &Container) -> Result<[&str; 2]> {
    match &container.command[..] {
        [.., from, to] => Ok([from, to]),
        other => bail!("{}: {other:?}", container.name),
    }
}

/// The files of a ConfigMap, as the kubelet lays them out.
fn lay_out(directory: &Path, data: &Value) -> Result<()> {
    let place = directory.join("..1");
    std::fs::create_dir_all(&place)?;
    symlink("..1", directory.join("..data"))?;
    for (name, text) in data.as_object().context("no data")? {
        std::fs::write(place.join(name), text.as_str().context("no text")?)?;
        symlink(Path::new("..data").join(name), directory.join(name))?;
    }
    Ok(())
}

/// Two nodes with a manifest in which nothing is another but the image.
fn works(ground: &mut Ground, shape: &Shape) -> Result<()> {
    let asked = Asked::by(shape)?;
    let first = ground.lab.nodes().len();
    for _ in 0..2 {
        ground.lab.add_node(Place::Near)?;
    }
    let ground = &*ground;
    let nodes = ground.lab.nodes()[first..].iter().zip(first..);
    let kubelets = nodes.map(|(node, number)| Kubelet::new(ground, shape, node, asked.pod_cidrs(number + 1)));
    let kubelets = kubelets.collect::<Result<Vec<_>>>()?;
    let mut all = shape.flannels()?;
    let container = all.pop().context("no daemon")?;
    let mut daemons = Vec::new();
    let mut forwarders = Vec::new();
    for kubelet in &kubelets {
        for init in &all {
            kubelet.run(init)?;
        }
        kubelet.has_cni(&all)?;
        forwarders.extend(api_server_on_the_node(kubelet, &container)?);
        daemons.push(kubelet.start(&container)?);
    }
    for (kubelet, daemon) in kubelets.iter().zip(&mut daemons) {
        kubelet.wait_up(daemon, &container, &asked)?;
    }
    if asked.backend()?.connects() {
        let pods = kubelets.iter().map(|kubelet| kubelet.wire(&container)).collect::<Result<Vec<_>>>()?;
        for (from, to) in [(0, 1), (1, 0)] {
            wait::until_true("pods reach each other", || Ok(pods[from].reaches(&pods[to]).is_ok()))?;
        }
    }
    for (mut daemon, kubelet) in daemons.into_iter().zip(&kubelets) {
        daemon.runs()?;
        let log = daemon.log().clone();
        let status = daemon.terminate()?;
        ensure!(status.success(), "{status}: {}", log.tail());
        complains_of_nothing_twice(&log)?;
        ground.plane.admin().delete_node(kubelet.node.name())?;
    }
    Ok(())
}

/// No error, and no warning that comes again: nobody can do anything about what containers are not given.
fn complains_of_nothing_twice(log: &Log) -> Result<()> {
    let mut seen = BTreeSet::new();
    for line in log.lines() {
        // Behind the time.
        let said = line.raw().split_once(' ').map_or("", |(_, said)| said.trim_start());
        ensure!(!said.starts_with("ERROR"), "{}", line.raw());
        ensure!(!said.starts_with("WARN") || seen.insert(said.to_owned()), "again: {}", line.raw());
    }
    Ok(())
}

/// Where a manifest has the API server on the node itself, there it is.
fn api_server_on_the_node(kubelet: &Kubelet, container: &Container) -> Result<Option<Forwarder>> {
    let value = |wanted: &str| {
        container.variables.iter().find(|(name, _)| name == wanted).and_then(|(_, value)| value.clone())
    };
    let Some(port) = value("KUBERNETES_SERVICE_PORT") else { return Ok(None) };
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port.parse()?);
    Forwarder::start(kubelet.node.namespace(), address, kubelet.ground.plane.address()).map(Some)
}

/// All of these manifests work, one after the other. What this kernel cannot show is left to another one.
fn all_work(names: &[&str]) -> Result<()> {
    let mut shown = Vec::new();
    for name in names {
        let source =
            shapes::ALL.iter().find(|source| source.name == *name).with_context(|| (*name).to_owned())?;
        let shape = source.load()?;
        match Asked::by(&shape)?.backend()?.missing()? {
            Some(reason) => flannel_test_support::skip(reason),
            None => shown.push(shape),
        }
    }
    if shown.is_empty() {
        return Ok(());
    }
    let Some(mut ground) = Ground::start()? else { return Ok(()) };
    for shape in &shown {
        works(&mut ground, shape).with_context(|| shape.source.name)?;
    }
    Ok(())
}

#[test]
fn upstreams_manifests_work_with_our_image() -> Result<()> {
    all_work(MANIFESTS)
}

#[test]
fn upstreams_chart_works_with_our_image() -> Result<()> {
    all_work(CHART)
}

#[test]
fn upstreams_chart_works_with_our_image_with_backends_that_take_no_module() -> Result<()> {
    all_work(WITHOUT_MODULE)
}

#[test]
fn upstreams_chart_works_with_our_image_with_wireguard() -> Result<()> {
    all_work(WIREGUARD)
}

#[test]
fn upstreams_chart_works_with_our_image_with_ipip() -> Result<()> {
    all_work(IPIP)
}

#[test]
fn distributions_manifests_work_with_our_image() -> Result<()> {
    all_work(DISTRIBUTIONS)
}

#[test]
fn no_manifest_is_left_out() {
    let mut shown = [MANIFESTS, CHART, WITHOUT_MODULE, WIREGUARD, IPIP, DISTRIBUTIONS].concat();
    let mut all: Vec<_> = shapes::ALL.iter().map(|source| source.name).collect();
    shown.sort_unstable();
    all.sort_unstable();
    assert_eq!(shown, all);
}
