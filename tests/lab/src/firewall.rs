//! The firewall of a node: `iptables` with `ip6tables`, or `nft`, whichever the network config says.

use anyhow::Result;

use crate::{Namespace, Node};

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// `EnableNFTables` false.
    Iptables,
    /// `EnableNFTables` true.
    Nftables,
}

/// What is in the names of the tables that say who may send into tunnels.
const TUNNELS: &str = "flannel-tunnels";

/// Who may send into a node's tunnels, as `nft` lists it.
pub fn tunnel_sources(node: &Node) -> Result<String> {
    tables(node.namespace(), |table| table.contains(TUNNELS))
}

fn tables(space: &Namespace, wanted: impl Fn(&str) -> bool) -> Result<String> {
    let mut listed = String::new();
    for table in space.tool("nft", "list tables")?.lines().filter(|table| wanted(table)) {
        listed += &(space.tool("nft", &format!("list {table}"))? + "\n");
    }
    Ok(listed)
}

impl Firewall {
    /// Why this machine does not have it; none: it does.
    pub fn missing(self) -> Result<Option<String>> {
        let space = Namespace::new("a namespace to try the firewall in")?;
        let commands: &[(&str, &str)] = match self {
            Self::Iptables => &[
                (
                    "iptables",
                    "-t nat -A POSTROUTING -m mark --mark 0x4000/0x4000 -m comment --comment x -j RETURN",
                ),
                ("iptables", "-t nat -A POSTROUTING -j MASQUERADE --random-fully"),
                ("ip6tables", "-t nat -A POSTROUTING -j MASQUERADE --random-fully"),
                ("iptables", "-P FORWARD ACCEPT"),
                ("iptables-save", ""),
            ],
            Self::Nftables => &[
                ("nft", "add table ip x"),
                ("nft", "add chain ip x y { type nat hook postrouting priority 100 ; }"),
                ("nft", "add rule ip x y masquerade fully-random"),
                ("nft", "add table ip6 x"),
                ("nft", "add chain ip6 x y { type nat hook postrouting priority 100 ; }"),
                ("nft", "add rule ip6 x y masquerade fully-random"),
            ],
        };
        let failed = commands.iter().find_map(|(tool, arguments)| space.tool(tool, arguments).err());
        Ok(failed.map(|error| format!("{error:#}")))
    }

    /// All rules of a node, but for those that go with the daemon: who may send into tunnels.
    pub fn rules(self, node: &Node) -> Result<String> {
        let space = node.namespace();
        match self {
            Self::Iptables => {
                Ok(space.tool("iptables-save", "")? + "\n" + &space.tool("ip6tables-save", "")?)
            }
            Self::Nftables => tables(space, |table| !table.contains(TUNNELS)),
        }
    }

    /// What somebody does who thinks that all rules are his.
    pub fn flush(self, node: &Node) -> Result<()> {
        let commands: &[(&str, &str)] = match self {
            Self::Iptables => &[
                ("iptables", "-t nat -F"),
                ("iptables", "-t nat -X"),
                ("ip6tables", "-t nat -F"),
                ("ip6tables", "-t nat -X"),
            ],
            Self::Nftables => &[("nft", "flush ruleset")],
        };
        for (tool, arguments) in commands {
            let done = node.namespace().tool(tool, arguments);
            // The rules may be back already: then their chains are in use again, and cannot be deleted.
            if !arguments.ends_with("-X") {
                done?;
            }
        }
        Ok(())
    }

    /// The network config that asks for it.
    pub fn config(self) -> String {
        let nftables = self == Self::Nftables;
        format!(
            r#"{{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:5::/48","EnableNFTables":{nftables},"Backend":{{"Type":"vxlan"}}}}"#
        )
    }
}
