//! The CNI project's own plugins, as a container runtime with flannel's CNI plugin runs them: they make a pod from what a node's
//! subnet file says.

use std::io::{Seek, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::subnet_env::SubnetEnv;
use crate::{Namespace, Node, Pod, artifacts};

/// The name of the network that pods are added to.
const NETWORK: &str = "cbr0";

/// A node's CNI plugins.
#[derive(Debug)]
pub struct Cni<'a> {
    plugins: PathBuf,
    node: &'a Node,
    config: Value,
    mtu: u32,
}

impl<'a> Cni<'a> {
    /// Reads a node's subnet file, as flannel's CNI plugin does each time.
    pub fn new(node: &'a Node) -> Result<Self> {
        let env = node.subnet_env()?.with_context(|| format!("{} has no subnet file", node.name()))?;
        let state = node.directory().join("cni");
        let config = json!({
            "cniVersion": "1.0.0",
            "name": NETWORK,
            "type": "bridge",
            "isGateway": true,
            "mtu": env.mtu,
            "ipMasq": !env.ip_masq,
            "ipam": {
                "type": "host-local",
                "dataDir": state,
                "ranges": ranges(&env),
                "routes": env.networks.iter().map(|network| json!({"dst": network})).collect::<Vec<_>>(),
            },
        });
        Ok(Self { plugins: artifacts::cni()?, node, config, mtu: env.mtu })
    }

    /// Makes a pod.
    pub fn add(&self, container: &str) -> Result<Pod> {
        let namespace = Namespace::new(format!("pod {container} of {}", self.node.name()))?;
        let result: Value = serde_json::from_str(&self.run("ADD", container, &namespace)?)?;
        let addresses = result["ips"].as_array().into_iter().flatten().map(|ip| {
            let address: IpNet = ip["address"].as_str().context("an address")?.parse()?;
            Ok(address.addr())
        });
        let addresses = addresses.collect::<Result<Vec<_>>>().with_context(|| result.to_string())?;
        Ok(Pod::wired(namespace, addresses, self.node.namespace(), self.mtu))
    }

    /// Takes a pod's network away.
    pub fn delete(&self, container: &str, pod: &Pod) -> Result<()> {
        self.run("DEL", container, pod.namespace()).map(drop)
    }

    /// The addresses that are taken, as `host-local` has them.
    pub fn taken(&self) -> Result<Vec<String>> {
        let directory = self.node.directory().join("cni").join(NETWORK);
        let mut taken = Vec::new();
        for entry in std::fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            // Beside the addresses there are a lock and the addresses given out last.
            if !name.starts_with("last_reserved_ip") && name != "lock" {
                taken.push(name);
            }
        }
        taken.sort();
        Ok(taken)
    }

    fn run(&self, command: &str, container: &str, pod: &Namespace) -> Result<String> {
        let mut config = tempfile::tempfile()?;
        config.write_all(self.config.to_string().as_bytes())?;
        config.rewind()?;
        let output = self
            .node
            .namespace()
            .command(self.plugins.join("bridge"))
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", pod.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &self.plugins)
            .stdin(config)
            .output()
            .context("cannot run the CNI plugin bridge")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let more = String::from_utf8_lossy(&output.stderr);
            bail!("on {}: CNI {command} {container}: {said}{more}", self.node.name());
        }
        Ok(said)
    }
}

fn ranges(env: &SubnetEnv) -> Vec<Value> {
    env.subnets().into_iter().map(|subnet| json!([{"subnet": subnet}])).collect()
}
