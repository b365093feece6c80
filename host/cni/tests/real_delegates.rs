//! With the CNI project's own plugins `bridge` and `host-local`, in a namespace of its own.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use flannel_test_support::skip;
use serde_json::{Value, json};

use support::Node;

/// Where the plugins are: what `CNI_PATH` says, the usual places, and where the project's setup puts them.
fn plugins() -> Option<PathBuf> {
    let said = std::env::var_os("CNI_PATH").unwrap_or_default();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/cni/usr/lib/cni");
    let usual = [PathBuf::from("/usr/lib/cni"), PathBuf::from("/opt/cni/bin"), own];
    let is_one =
        |directory: &PathBuf| ["bridge", "host-local"].iter().all(|plugin| directory.join(plugin).is_file());
    std::env::split_paths(&said).chain(usual).find(is_one)
}

/// Adds a container, shows what it has and which addresses are taken, and removes it; all in namespaces that end with the shell.
const SCRIPT: &str = r#"
set -eu
ip link set lo up
unshare --net sh -c 'echo; exec sleep 60' > "$DIR/started" &
pod=$!
while ! [ -s "$DIR/started" ]; do sleep 0.01; done
trap 'kill $pod' EXIT
export CNI_NETNS="/proc/$pod/ns/net" CNI_CONTAINERID=c1 CNI_IFNAME=eth0
CNI_COMMAND=ADD "$PLUGIN" < "$DIR/config" > "$DIR/result"
nsenter --net="$CNI_NETNS" ip -j addr show dev eth0 > "$DIR/addresses"
nsenter --net="$CNI_NETNS" ip -j route > "$DIR/routes"
ls "$DIR/ipam/cbr0" > "$DIR/taken"
CNI_COMMAND=DEL "$PLUGIN" < "$DIR/config"
CNI_COMMAND=DEL "$PLUGIN" < "$DIR/config"
ls "$DIR/ipam/cbr0" > "$DIR/left"
"#;

#[test]
fn a_pod_has_the_nodes_subnet_mtu_and_routes_and_gives_its_addresses_back() {
    let Some(plugins) = plugins() else {
        return skip("the CNI plugins bridge and host-local are not installed: `cargo xtask setup`");
    };
    if !Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success()) {
        return skip("no network namespace can be made: that takes root");
    }
    let node = Node::new();
    let subnet = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.7.1/24\nFLANNEL_IPV6_NETWORK=fc00:5::/48\n\
                  FLANNEL_IPV6_SUBNET=fc00:5:0:8::1/64\nFLANNEL_MTU=1410\nFLANNEL_IPMASQ=true\n";
    std::fs::write(node.subnet_file(), subnet).expect("written");
    let config = node.config_with("1.0.0", &json!({"ipam": {"dataDir": node.top().join("ipam")}}));
    std::fs::write(node.top().join("config"), config).expect("written");
    let output = Command::new("unshare")
        .args(["--net", "sh", "-c", SCRIPT])
        .env("DIR", node.top())
        .env("PLUGIN", env!("CARGO_BIN_EXE_flannel"))
        .env("CNI_PATH", plugins)
        .output()
        .expect("unshare");
    let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    let read = |name: &str| std::fs::read_to_string(node.top().join(name)).expect("written");
    assert!(output.status.success(), "{said:?} {}", read("result"));
    let json = |name: &str| serde_json::from_str::<Value>(&read(name)).expect("JSON");
    let addresses: Vec<Value> =
        json("result")["ips"].as_array().expect("addresses").iter().map(|ip| ip["address"].clone()).collect();
    assert_eq!(addresses, ["10.244.7.2/24", "fc00:5:0:8::2/64"]);
    assert_eq!(json("addresses")[0]["mtu"], 1410);
    let routes = json("routes");
    let is_there = |route: &Value| route["dst"] == "10.244.0.0/16" && route["gateway"] == "10.244.7.1";
    assert!(routes.as_array().expect("routes").iter().any(is_there), "{routes}");
    let taken = |name: &str| {
        read(name).lines().filter(|line| line.starts_with("10.") || line.starts_with("fc00")).count()
    };
    assert_eq!((taken("taken"), taken("left")), (2, 0));
    assert!(!node.saved("c1").exists());
}
