//! A real Kubernetes control plane: kube-apiserver, the controller that gives nodes their podCIDRs, and the etcd behind them. No node runs
//! anything, but in a [`KubernetesCluster`](crate::KubernetesCluster): node and pod objects are made by hand, and stay as they were made.
//!
//! All parts are one program (`tests/control-plane/`) and run in the namespace of the lab's switch, so each lab can have one, on the usual
//! ports. Nodes reach the API server at the router's addresses.
//!
//! | module | job |
//! |---|---|
//! | [`part`] | the processes: started, killed, started again |
//! | `arguments` | their command lines |
//! | [`mode`] | pod and service networks: of one family, or of both |
//! | [`pki`] | certificates and keys |
//! | [`identity`] | who may ask, and with which token |
//! | [`client`] | questions to the API server, and watches |
//! | [`kept`] | many questions, one after the other, on one connection |
//! | [`nodes`], [`pods`] | objects, made and read |
//! | [`manifest`] | what upstream's manifest gives its daemon, and permits it |
//! | [`volume`] | a service account's token, where a pod has it |
//! | `etcd_gateway` | compaction |

mod arguments;
pub mod client;
mod etcd_gateway;
pub mod identity;
pub mod kept;
pub mod manifest;
pub mod mode;
pub mod nodes;
pub mod part;
pub mod pki;
pub mod pods;
pub mod volume;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{Lab, Namespace, Place, artifacts, wait};
pub use client::Client;
use client::Trust;
pub use identity::Identity;
pub use mode::Mode;
pub use part::Part;
use part::Process;
use pki::Pki;

/// The API server's port.
pub const PORT: u16 = 6443;
/// Where the switch itself reaches it.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);
/// Where etcd is, for its clients: nobody else reaches it.
const ETCD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2379);

/// A running control plane. It is killed when this is dropped.
#[derive(Debug)]
pub struct ControlPlane {
    namespace: Namespace,
    directory: PathBuf,
    mode: Mode,
    kubelets: bool,
    flags: Vec<String>,
    pki: Pki,
    trust: Trust,
    etcd: Process,
    api_server: Process,
    controllers: Process,
}

/// Why it cannot be had on this machine; none: it is there.
pub fn missing() -> Result<Option<String>> {
    let program = artifacts::control_plane();
    if let Ok(reason) = std::fs::read_to_string(program.with_extension("skipped")) {
        return Ok(Some(reason));
    }
    ensure!(program.is_file(), "{} is not there: `cargo xtask control-plane` makes it", program.display());
    Ok(None)
}

impl ControlPlane {
    /// Starts one in a lab, and waits until it answers.
    pub fn start(lab: &Lab, mode: Mode) -> Result<Self> {
        Self::start_with(lab, mode, &[])
    }

    /// The same with more flags for the API server.
    pub fn start_with(lab: &Lab, mode: Mode, flags: &[&str]) -> Result<Self> {
        Self::start_any(lab, mode, false, flags)
    }

    /// One for real nodes: with what gives pods their service accounts, makes pods of DaemonSets and Deployments, and has Services' addresses
    /// lead to pods; the API server's own, too.
    pub fn start_for_kubelets(lab: &Lab, mode: Mode) -> Result<Self> {
        Self::start_any(lab, mode, true, &[])
    }

    fn start_any(lab: &Lab, mode: Mode, kubelets: bool, flags: &[&str]) -> Result<Self> {
        let program = artifacts::control_plane();
        let namespace = lab.switch().namespace().clone();
        let directory = lab.directory().join("control-plane");
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let gateways = [Place::Near, Place::Far]
            .into_iter()
            .flat_map(|place| [IpAddr::V4(place.gateway()), IpAddr::V6(place.gateway_v6())]);
        let pki = Pki::new(&directory, gateways)?;
        identity::write_tokens(&directory)?;
        let process = |part| Process::new(part, &program, &namespace, &directory);
        let mut plane = Self {
            mode,
            kubelets,
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            trust: Trust::new(pki.authority())?,
            pki,
            etcd: process(Part::Etcd),
            api_server: process(Part::ApiServer),
            controllers: process(Part::Controllers),
            namespace: namespace.clone(),
            directory: directory.clone(),
        };
        let kubeconfig = plane.kubeconfig(LOOPBACK, Identity::Controllers.token().as_deref());
        std::fs::write(directory.join(identity::CONTROLLERS_KUBECONFIG), kubeconfig.to_string())?;
        plane.start_again()?;
        Ok(plane)
    }

    /// Kills a part, as `kill -9` does.
    pub fn kill(&mut self, part: Part) {
        self.process(part).kill();
    }

    /// Kills all parts, as `kill -9` does.
    pub fn kill_all(&mut self) {
        for part in Part::ALL.into_iter().rev() {
            self.kill(part);
        }
    }

    /// Gives the API server other flags, besides the usual ones, from its next start on.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    }

    /// Starts the parts that were killed, or have ended, with the data that there are, and waits until the API server is ready.
    pub fn start_again(&mut self) -> Result<()> {
        self.launch(Part::Etcd)?;
        self.launch(Part::ApiServer)?;
        self.wait_ready()?;
        // Not before: they end if the API server takes ten seconds, as it may on a slow machine.
        self.launch(Part::Controllers)
    }

    /// The API server's number, while it runs.
    pub fn api_server_pid(&self) -> Option<u32> {
        self.api_server.pid()
    }

    /// What has been said last by all parts, for people.
    pub fn story(&self) -> String {
        [&self.etcd, &self.api_server, &self.controllers].map(Process::story).concat()
    }

    /// Where a part says what it does.
    pub fn log(&self, part: Part) -> PathBuf {
        part.log(&self.directory)
    }

    /// Where its files are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where nodes reach the API server: over IPv4.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(Place::Near.gateway().into(), PORT)
    }

    /// Where nodes reach the API server over IPv6, if the lab's underlay has it.
    pub fn address_v6(&self) -> SocketAddr {
        SocketAddr::new(Place::Near.gateway_v6().into(), PORT)
    }

    /// The certificate of the authority that has signed the API server's, PEM.
    pub fn authority(&self) -> &str {
        self.pki.authority()
    }

    /// A client's certificate and its private key, PEM: it is the user of that name, in these groups.
    pub fn client_certificate(&self, user: &str, groups: &[&str]) -> Result<(String, String)> {
        self.pki.client(user, groups)
    }

    /// Asks as somebody, from the switch.
    pub fn client(&self, identity: Identity) -> Client {
        self.client_with(identity.token())
    }

    /// Asks as the administrator, from the switch.
    pub fn admin(&self) -> Client {
        self.client(Identity::Admin)
    }

    /// Asks with such a certificate instead of a token, from the switch.
    pub fn client_certified(&self, user: &str, groups: &[&str]) -> Result<Client> {
        let (certificate, key) = self.client_certificate(user, groups)?;
        let trust = Trust::with_certificate(self.authority(), &certificate, &key)?;
        Ok(Client::new(self.namespace.clone(), LOOPBACK, trust, None))
    }

    /// Asks with a token or without one, from the switch.
    pub fn client_with(&self, token: Option<String>) -> Client {
        self.client_from(&self.namespace, LOOPBACK, token)
    }

    /// Asks from somewhere else, such as a node, at one of the API server's addresses.
    pub fn client_from(&self, from: &Namespace, address: SocketAddr, token: Option<String>) -> Client {
        Client::new(from.clone(), address, self.trust.clone(), token)
    }

    /// A kubeconfig, JSON, which is YAML, with the authority inside; without a token: for a caller without a name.
    pub fn kubeconfig(&self, server: SocketAddr, token: Option<&str>) -> Value {
        use base64::Engine;
        let authority = base64::engine::general_purpose::STANDARD.encode(self.authority());
        let user = token.map_or_else(|| json!({}), |token| json!({ "token": token }));
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "lab" } }],
            "clusters": [{ "name": "lab", "cluster": {
                "server": format!("https://{server}"), "certificate-authority-data": authority,
            } }],
            "users": [{ "name": "lab", "user": user }],
        })
    }

    /// The variables that tell a pod where the API server is.
    pub fn variables(&self, server: SocketAddr) -> [(&'static str, String); 2] {
        [
            ("KUBERNETES_SERVICE_HOST", server.ip().to_string()),
            ("KUBERNETES_SERVICE_PORT", server.port().to_string()),
        ]
    }

    /// Has etcd forget all revisions before the present one. Answers which that is.
    pub fn compact(&self) -> Result<i64> {
        etcd_gateway::compact(&self.namespace, ETCD)
    }

    fn process(&mut self, part: Part) -> &mut Process {
        match part {
            Part::Etcd => &mut self.etcd,
            Part::ApiServer => &mut self.api_server,
            Part::Controllers => &mut self.controllers,
        }
    }

    fn launch(&mut self, part: Part) -> Result<()> {
        let arguments = self.arguments(part);
        self.process(part).launch(&arguments)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let admin = self.admin();
        let ready = wait::until_true("the Kubernetes API server is ready", || {
            self.etcd.has_not_ended()?;
            self.api_server.has_not_ended()?;
            Ok(admin.get("/readyz").is_ok_and(|answer| answer.status == 200))
        });
        ready.map(drop).with_context(|| self.story())
    }
}
