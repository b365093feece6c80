//! The delegate's configuration, made of the network's and of the node's subnet.
//!
//! Which members are set, and which only where they are missing, is as in upstream's plugin.

use serde_json::{Value, json};

use crate::config::{Config, Object};
use crate::error::{CniError, codes};
use crate::node_subnet::NodeSubnet;

/// The plugin that makes interfaces, unless the configuration names another.
const DELEGATE: &str = "bridge";
/// The plugin that gives addresses, unless the configuration names another.
const IPAM: &str = "host-local";
/// This plugin's own type, to which it cannot delegate.
const OURSELVES: &str = "flannel";

/// The delegate's type.
pub(crate) fn delegate_type(config: &Config) -> Result<&str, CniError> {
    match config.delegate.get("type") {
        None => Ok(DELEGATE),
        Some(Value::String(name)) if name != OURSELVES => Ok(name),
        Some(other) => {
            let wrong = format!(
                "delegate.type is {other}: right would be the name of another plugin, such as \"bridge\""
            );
            Err(CniError::new(codes::CONFIG, wrong))
        }
    }
}

/// The configuration with which the delegate is started.
pub(crate) fn delegate_config(config: &Config, subnet: &NodeSubnet) -> Result<Object, CniError> {
    for key in ["name", "ipam"] {
        if config.delegate.contains_key(key) {
            let instead =
                if key == "ipam" { "beside delegate, not in it" } else { "nothing: it is the network's" };
            let wrong = format!("delegate.{key} is set by this plugin: right would be {instead}");
            return Err(CniError::new(codes::CONFIG, wrong));
        }
    }
    let delegate = delegate_type(config)?;
    let mut rendered = config.delegate.clone();
    if let Some(version) = &config.version {
        rendered.insert("cniVersion".to_owned(), json!(version));
    }
    rendered.insert("name".to_owned(), json!(config.name));
    if let Some(runtime) = &config.runtime {
        rendered.insert("runtimeConfig".to_owned(), Value::Object(runtime.clone()));
    }
    let mut default = |key: &str, value: Value| {
        rendered.entry(key).or_insert(value);
    };
    default("type", json!(delegate));
    // One of both has to, and not both.
    default("ipMasq", json!(!subnet.ipmasq));
    default("mtu", json!(subnet.mtu));
    if delegate == DELEGATE {
        default("isGateway", json!(true));
    }
    rendered.insert("ipam".to_owned(), Value::Object(ipam(&config.ipam, subnet)?));
    Ok(rendered)
}

fn ipam(given: &Object, subnet: &NodeSubnet) -> Result<Object, CniError> {
    let mut routes = match given.get("routes") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(routes)) => routes.clone(),
        Some(other) => {
            let wrong = format!("ipam.routes is {other}: right would be an array of objects with dst");
            return Err(CniError::new(codes::CONFIG, wrong));
        }
    };
    routes.extend(subnet.networks.iter().map(|network| json!({"dst": network})));
    let v4 = subnet.ipv4.map(|subnet| json!([{"subnet": subnet}]));
    let v6 = subnet.ipv6.map(|subnet| json!([{"subnet": subnet}]));
    let mut ipam = given.clone();
    ipam.entry("type").or_insert_with(|| json!(IPAM));
    ipam.insert("ranges".to_owned(), v4.into_iter().chain(v6).collect());
    ipam.insert("routes".to_owned(), Value::Array(routes));
    Ok(ipam)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: [(&str, &str); 2] = [("10.244.0.0/16", ""), ("10.244.7.0/24", "")];

    fn subnet([networks, subnets]: [(&str, &str); 2], ipmasq: bool) -> NodeSubnet {
        let networks = [networks.0, networks.1].into_iter().filter_map(|net| net.parse().ok()).collect();
        NodeSubnet { networks, ipv4: subnets.0.parse().ok(), ipv6: subnets.1.parse().ok(), mtu: 1450, ipmasq }
    }

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes(), &mut None).expect("a configuration")
    }

    fn rendered(text: &str, subnet: &NodeSubnet) -> Value {
        Value::Object(delegate_config(&config(text), subnet).expect("rendered"))
    }

    #[test]
    fn what_kubernetes_installs_becomes_a_bridge_with_the_nodes_ipv4_subnet() {
        // The plugin's part of upstream's cni-conf.json.
        let text = r#"{"cniVersion":"0.3.1","name":"cbr0","type":"flannel","delegate":{"hairpinMode":true,"isDefaultGateway":true}}"#;
        let golden = json!({
            "cniVersion": "0.3.1",
            "hairpinMode": true,
            "ipMasq": false,
            "ipam": {
                "ranges": [[{"subnet": "10.244.7.0/24"}]],
                "routes": [{"dst": "10.244.0.0/16"}],
                "type": "host-local",
            },
            "isDefaultGateway": true,
            "isGateway": true,
            "mtu": 1450,
            "name": "cbr0",
            "type": "bridge",
        });
        assert_eq!(rendered(text, &subnet(V4, true)), golden);
    }

    #[test]
    fn a_node_with_ipv6_alone_has_a_range_and_a_route_of_it() {
        let subnet = subnet([("", "fc00:5::/48"), ("", "fc00:5:0:8::/64")], false);
        let golden = json!({
            "ipMasq": true,
            "ipam": {
                "ranges": [[{"subnet": "fc00:5:0:8::/64"}]],
                "routes": [{"dst": "fc00:5::/48"}],
                "type": "host-local",
            },
            "isGateway": true,
            "mtu": 1450,
            "name": "cbr0",
            "type": "bridge",
        });
        assert_eq!(rendered(r#"{"name":"cbr0","type":"flannel"}"#, &subnet), golden);
    }

    #[test]
    fn a_node_with_both_families_has_a_range_of_each_and_both_routes() {
        let subnet = subnet([("10.244.0.0/16", "fc00:5::/48"), ("10.244.7.0/24", "fc00:5:0:8::/64")], true);
        let ipam = &rendered(r#"{"name":"cbr0"}"#, &subnet)["ipam"];
        assert_eq!(ipam["ranges"], json!([[{"subnet": "10.244.7.0/24"}], [{"subnet": "fc00:5:0:8::/64"}]]));
        assert_eq!(ipam["routes"], json!([{"dst": "10.244.0.0/16"}, {"dst": "fc00:5::/48"}]));
    }

    #[test]
    fn the_delegates_own_options_pass_and_come_before_what_is_rendered() {
        let text = r#"{"name":"cbr0","runtimeConfig":{"mac":"00:11:22:33:44:55"},"delegate":{
            "type":"ipvlan","master":"eth0","mtu":1400,"ipMasq":true,"capabilities":{"mac":true},
            "cniVersion":"0.1.0","runtimeConfig":{"mac":"x"}}}"#;
        let rendered = rendered(text, &subnet(V4, true));
        for (key, value) in [
            ("type", json!("ipvlan")),
            ("master", json!("eth0")),
            ("mtu", json!(1400)),
            ("ipMasq", json!(true)),
            ("capabilities", json!({"mac": true})),
            ("cniVersion", json!("0.1.0")),
            ("runtimeConfig", json!({"mac": "00:11:22:33:44:55"})),
        ] {
            assert_eq!(rendered[key], value, "{key}");
        }
        assert!(rendered.get("isGateway").is_none(), "only bridge has that");
    }

    #[test]
    fn what_is_given_for_addresses_stays_but_for_the_ranges() {
        let text = r#"{"name":"cbr0","ipam":{"type":"mine","dataDir":"/x","ranges":[[{"subnet":"192.168.0.0/24"}]],
            "routes":[{"dst":"0.0.0.0/0","gw":"10.244.7.1"}]}}"#;
        let golden = json!({
            "type": "mine",
            "dataDir": "/x",
            "ranges": [[{"subnet": "10.244.7.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.244.7.1"}, {"dst": "10.244.0.0/16"}],
        });
        assert_eq!(rendered(text, &subnet(V4, true))["ipam"], golden);
    }

    #[test]
    fn what_a_delegate_cannot_be_told_is_named() {
        for (part, named) in [
            (r#""delegate":{"type":5}"#, "delegate.type is 5"),
            (r#""delegate":{"type":null}"#, "delegate.type is null"),
            (r#""delegate":{"type":"flannel"}"#, "another plugin"),
            (r#""delegate":{"name":"a"}"#, "delegate.name"),
            (r#""delegate":{"ipam":{}}"#, "delegate.ipam"),
            (r#""ipam":{"routes":{}}"#, "ipam.routes"),
        ] {
            let config = config(&format!(r#"{{"name":"cbr0",{part}}}"#));
            let error = delegate_config(&config, &subnet(V4, true)).expect_err(part);
            assert!(error.code == codes::CONFIG && error.msg.contains(named), "{part}: {error}");
        }
    }
}
