//! A network, as far as routes go.

use std::net::Ipv4Addr;

use flannel_backend::ipnet::Ipv4Net;
use flannel_backend::serde_json::{Value, json};

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// All of its addresses.
    pub range: Ipv4Net,
    /// Its routes.
    pub routes: Vec<Route>,
}

/// A route. To a destination there is at most one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where packets go.
    pub destination: Ipv4Net,
    /// The server that takes them, by its address in the network.
    pub gateway: Ipv4Addr,
}

impl Network {
    /// Reads a network; none: it is none.
    pub fn read(value: &Value) -> Option<Self> {
        let range = value["ip_range"].as_str()?.parse().ok()?;
        let routes = value["routes"].as_array()?.iter().filter_map(Route::read).collect();
        Some(Self { range, routes })
    }
}

impl Route {
    fn read(value: &Value) -> Option<Self> {
        let text = |member: &str| value[member].as_str();
        Some(Self {
            destination: text("destination")?.parse().ok()?,
            gateway: text("gateway")?.parse().ok()?,
        })
    }

    /// As it is sent.
    pub fn to_json(&self) -> Value {
        json!({ "destination": self.destination.to_string(), "gateway": self.gateway.to_string() })
    }
}
