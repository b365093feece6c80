//! Routes with attributes, and rules, as they are shown.

use std::fmt::Write as _;

use flannel_model::policy_routing::{PolicyRoute, Rule};
use serde::Serialize;

use super::{device_name, list};

/// A route with attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownRoute {
    /// Where to.
    pub destination: String,
    /// Of the plugin's own tables; none: the main table.
    pub table: Option<u8>,
    /// The metric.
    pub metric: u32,
    /// The preferred source.
    pub source: Option<String>,
    /// Bytes of the largest IP packet.
    pub mtu: Option<u32>,
    /// Bytes of the largest TCP segment that is announced.
    pub advmss: Option<u32>,
    /// The next hops.
    pub hops: Vec<ShownHop>,
}

/// A next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownHop {
    /// The gateway.
    pub via: Option<String>,
    /// It is on the link whatever addresses say.
    pub onlink: bool,
    /// Over which device.
    pub device: String,
    /// Its share of the flows.
    pub weight: u16,
    /// What packets get around them, in the words of ip-route(8).
    pub encapsulation: Option<String>,
}

impl ShownRoute {
    pub(super) fn new(route: &PolicyRoute, interface: &str) -> Self {
        let hops = route.hops.iter().map(|hop| ShownHop {
            via: hop.via.map(|via| via.to_string()),
            onlink: hop.onlink,
            device: device_name(&hop.device, interface),
            weight: hop.weight,
            encapsulation: hop.encapsulation.as_ref().map(ToString::to_string),
        });
        Self {
            destination: route.destination.to_string(),
            table: route.table,
            metric: route.metric,
            source: route.source.map(|source| source.to_string()),
            mtu: route.mtu,
            advmss: route.advmss,
            hops: hops.collect(),
        }
    }

    /// Kind, devices, what it is about, and what is said of that.
    pub(super) fn cells(&self) -> [String; 4] {
        let mut devices: Vec<String> = self.hops.iter().map(|hop| hop.device.clone()).collect();
        devices.dedup();
        let ways: Vec<String> = self.hops.iter().map(|hop| self.way(hop)).collect();
        let mut said = format!("{} metric {}", ways.join(", "), self.metric);
        let attributes = [
            ("table", self.table.map(|table| table.to_string())),
            ("src", self.source.clone()),
            ("mtu", self.mtu.map(|mtu| mtu.to_string())),
            ("advmss", self.advmss.map(|advmss| advmss.to_string())),
        ];
        for (name, value) in attributes.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            let _ = write!(said, " {name} {value}");
        }
        ["route".to_owned(), list(&devices), self.destination.clone(), said.trim_start().to_owned()]
    }

    fn way(&self, hop: &ShownHop) -> String {
        let via = hop.via.as_ref().map(|via| format!("via {via}"));
        let words: Vec<&str> = hop.encapsulation.as_deref().into_iter().chain(via.as_deref()).collect();
        let via = words.join(" ");
        let onlink = if hop.onlink { " onlink" } else { "" };
        // With a single one it is clear which device it leaves by.
        let more = if self.hops.len() > 1 {
            format!(" dev {} weight {}", hop.device, hop.weight)
        } else {
            String::new()
        };
        format!("{via}{onlink}{more}")
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownRule {
    /// As the plugin says it.
    pub priority: u16,
    /// Packets from here.
    pub source: Option<String>,
    /// Packets to there.
    pub destination: Option<String>,
    /// Packets with this mark: value and mask.
    pub mark: Option<String>,
    /// Packets that have come in over the device of this name.
    pub input: Option<String>,
    /// Of the plugin's own tables.
    pub table: u8,
}

impl ShownRule {
    pub(super) fn new(rule: &Rule, interface: &str) -> Self {
        Self {
            priority: rule.priority,
            source: rule.source.map(|source| source.to_string()),
            destination: rule.destination.map(|destination| destination.to_string()),
            mark: rule.mark.map(|mark| format!("{:#x}/{:#x}", mark.value, mark.mask)),
            input: rule.input.as_ref().map(|input| device_name(input, interface)),
            table: rule.table,
        }
    }

    pub(super) fn row(&self) -> Vec<String> {
        let or_all = |text: &Option<String>| text.clone().unwrap_or_else(|| "all".to_owned());
        let (from, to, mark) = (or_all(&self.source), or_all(&self.destination), or_all(&self.mark));
        vec![self.priority.to_string(), from, to, mark, or_all(&self.input), self.table.to_string()]
    }
}
