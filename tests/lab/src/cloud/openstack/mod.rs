//! `OpenStack`, as far as extra routes of a router go: its Identity service (Keystone, <https://docs.openstack.org/api-ref/identity/v3/>) and
//! its Networking service (Neutron, <https://docs.openstack.org/api-ref/network/v2/#routers-routers>), each at an address of its own on the
//! lab's router. Whoever asks Neutron has to have a token that Keystone has given and not revoked, and that is not over.

mod identity;
mod network;

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::server::{Reply, Server};
use crate::{Lab, Place};

/// The router.
pub const ROUTER: &str = "f8a44de0-fc8e-45df-93c7-f79bf3b01c95";
/// The user, in the domain `Default`, with a role in the project `net`.
pub const USER: &str = "flannel";
/// The user's password. Made up.
pub const PASSWORD: &str = "made-up-password-of-openstack-0123456789";
/// What all tokens begin with.
pub const TOKEN: &str = "gAAAAABmade-up-token-of-openstack-";
/// The endpoint's name.
pub const ENDPOINT: &str = "openstack";

/// A cloud, which ends when this is dropped.
#[derive(Debug)]
pub struct OpenStack {
    state: Arc<Mutex<State>>,
    identity: Server,
    network: Server,
    directory: PathBuf,
}

#[derive(Debug)]
struct State {
    password: String,
    lifetime: Duration,
    tokens: Vec<(String, Instant)>,
    refused: usize,
    routes: Vec<Value>,
    /// The tokens of Neutron's calls that were answered, and the statuses.
    calls: Vec<(String, u16)>,
}

impl OpenStack {
    /// On the router of a lab.
    pub fn start(lab: &Lab) -> Result<Self> {
        let state = Arc::new(Mutex::new(State {
            password: PASSWORD.to_owned(),
            lifetime: Duration::from_hours(1),
            tokens: Vec::new(),
            refused: 0,
            routes: Vec::new(),
            calls: Vec::new(),
        }));
        let gateway: IpAddr = Place::Near.gateway().into();
        let serve = |answer: fn(&mut State, &super::server::Question) -> Reply| {
            let shared = Arc::clone(&state);
            Server::start(lab.switch().namespace(), SocketAddr::new(gateway, 0), move |question| {
                answer(&mut lock(&shared), question)
            })
        };
        let (identity, network) = (serve(identity::answer)?, serve(network::answer)?);
        let cloud = Self { state, identity, network, directory: lab.directory().to_owned() };
        cloud.write_password(PASSWORD)?;
        cloud.write("openstack.toml", &cloud.endpoints())?;
        Ok(cloud)
    }

    /// What an operator writes into the file of `--http-endpoints`.
    fn endpoints(&self) -> String {
        let (identity, network) = (self.identity.address(), self.network.address());
        format!(
            "[endpoint.{ENDPOINT}]\nurl = \"http://{network}\"\ninsecure = true\n\
             allow = [\"GET /v2.0/routers/{ROUTER}\", \"PUT /v2.0/routers/{ROUTER}/add_extraroutes\"]\n\
             [endpoint.{ENDPOINT}.credentials.keystone]\nauth-url = \"http://{identity}/v3\"\n\
             username = \"{USER}\"\nuser-domain-name = \"Default\"\npassword-file = \"openstack.password\"\n\
             project-name = \"net\"\nproject-domain-name = \"Default\"\n"
        )
    }

    /// The file of `--http-endpoints`.
    pub fn endpoints_file(&self) -> PathBuf {
        self.directory.join("openstack.toml")
    }

    /// Writes the password that the host has.
    pub fn write_password(&self, password: &str) -> Result<()> {
        self.write("openstack.password", &format!("{password}\n"))
    }

    /// Changes the user's password; tokens stay.
    pub fn set_password(&self, password: &str) {
        password.clone_into(&mut self.lock().password);
    }

    /// How long the tokens are good for that are given from now on.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.lock().lifetime = lifetime;
    }

    /// All tokens are good for nothing.
    pub fn revoke(&self) {
        let now = Instant::now();
        for (_, end) in &mut self.lock().tokens {
            *end = now;
        }
    }

    /// How many tokens were given.
    pub fn tokens(&self) -> usize {
        self.lock().tokens.len()
    }

    /// How often a token was refused to somebody.
    pub fn refused(&self) -> usize {
        self.lock().refused
    }

    /// The router's routes, as Neutron shows them.
    pub fn routes(&self) -> Vec<Value> {
        self.lock().routes.clone()
    }

    /// The statuses of Neutron's answers so far, and the tokens that came with the questions.
    pub fn calls(&self) -> Vec<(String, u16)> {
        self.lock().calls.clone()
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        write(&self.directory.join(name), text)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    let write = || {
        let new = file.with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(new, file)
    };
    write().with_context(|| file.display().to_string())
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A refusal in the shape that both services have for it.
fn refused(status: u16, title: &str, message: &str) -> Reply {
    let body = json!({ "error": { "code": status, "title": title, "message": message } });
    Reply::new(status, "application/json", body.to_string())
}

fn unauthorized() -> Reply {
    refused(401, "Unauthorized", "The request you have made requires authentication.")
}
