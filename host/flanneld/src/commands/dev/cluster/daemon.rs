//! The daemon of a node of the cluster.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::network::{INTERFACE, Network};

/// What a plugin may do here, where nothing is but the cluster: all that needs neither an API nor an operator's command.
const ALLOW: &str = "links,routes,neighbours,fdb,wireguard,udp-tunnel,state,node-info,own-lease";

/// How long a start may take: an interpreter may have to be compiled.
const START: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(20);

/// A daemon that was started. It is killed when this is dropped.
pub(super) struct Daemon {
    child: Child,
    log: PathBuf,
    subnet_file: PathBuf,
    socket: PathBuf,
}

impl Daemon {
    pub(super) fn start(
        network: &Network,
        node: usize,
        plugin: &Path,
        arguments: &[String],
        cache_dir: &Path,
        state_dir: &Path,
    ) -> anyhow::Result<Self> {
        let place = network.place().join(format!("node-{}", node + 1));
        let state = place.join("state");
        std::fs::create_dir_all(&state).with_context(|| state.display().to_string())?;
        // What this process has compiled, the daemon finds in the cache, and knows as its own by this.
        let key = state_dir.join("cache-key");
        if key.is_file() {
            std::fs::copy(&key, state.join("cache-key")).with_context(|| key.display().to_string())?;
        }
        let [log, subnet_file, socket] =
            ["flanneld.log", "subnet.env", "flanneld.sock"].map(|name| place.join(name));
        let _ = std::fs::remove_file(&subnet_file);
        let output = File::create(&log).with_context(|| log.display().to_string())?;
        let program = std::env::current_exe().context("cannot say what this program is")?;
        let mut command = Command::new(&program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FLANNELD_") {
                command.env_remove(name);
            }
        }
        command.arg(format!("--store=file:{}", network.place().join("store").display()));
        command.arg("--iface").arg(INTERFACE).arg("--plugin").arg(plugin).arg(format!("--allow={ALLOW}"));
        command.arg("--subnet-file").arg(&subnet_file).arg("--control-socket").arg(&socket);
        command.arg("--state-dir").arg(&state).arg("--cache-dir").arg(cache_dir).args(arguments);
        command.current_dir(&place).stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let child = network.inside(node, move || command.spawn())?.context("cannot run flanneld")?;
        Ok(Self { child, log, subnet_file, socket })
    }

    /// Whether it still runs.
    pub(super) fn runs(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it is asked.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits until it has a subnet; answers an address for a pod in each family. The error is what it has said last.
    pub(super) fn wait_ready(&mut self) -> anyhow::Result<Vec<IpAddr>> {
        let begin = Instant::now();
        loop {
            if let Ok(text) = std::fs::read_to_string(&self.subnet_file) {
                let addresses = addresses(&text);
                ensure!(!addresses.is_empty(), "{} has no subnet: {text}", self.subnet_file.display());
                return Ok(addresses);
            }
            if !self.runs() {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!(
                    "the daemon does not start: {}",
                    said.trim_end().lines().last().unwrap_or("no word why")
                );
            }
            ensure!(begin.elapsed() < START, "the daemon has no subnet after {} s", START.as_secs());
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The node's own addresses in its subnets, which pods' bridges have: the first ones.
fn addresses(subnet_file: &str) -> Vec<IpAddr> {
    let values = subnet_file.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        ["FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"].contains(&name).then_some(value)
    });
    values.filter_map(|value| value.split('/').next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_addresses_are_those_of_the_subnet_file() {
        let text = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_IPV6_SUBNET=fc00:5:0:48::1/64\n\
                    FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";
        let written: Vec<String> = addresses(text).iter().map(ToString::to_string).collect();
        assert_eq!(written, ["10.5.72.1", "fc00:5:0:48::1"]);
        assert_eq!(addresses("FLANNEL_SUBNET=x\n"), Vec::<IpAddr>::new());
    }
}
