//! The rules in nft's own language, as they are sent, and as JSON, as they are read back.

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::rules::{FamilyRules, Owner, Purpose, multicast};
use flannel_base::Family;

/// The bit in the mark of packets that kube-proxy masquerades.
const MARK: u32 = 0x4000;

/// The table of a family.
pub(crate) fn table_name(family: Family, owner: &Owner) -> String {
    let name = match family {
        Family::Ipv4 => "flannel-ipv4",
        Family::Ipv6 => "flannel-ipv6",
    };
    owner.name('-', name)
}

/// The family in nft's words, which are also those for a packet's header.
pub(super) fn protocol(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ip",
        Family::Ipv6 => "ip6",
    }
}

/// What should be in a family's table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub family: Family,
    pub owner: Owner,
    chains: Vec<Chain>,
}

#[derive(Clone, Debug)]
struct Chain {
    name: &'static str,
    comment: &'static str,
    kind: &'static str,
    hook: &'static str,
    priority: i32,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    matches: Vec<Match>,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug)]
enum Match {
    Marked,
    Address { field: &'static str, is: bool, network: IpNet },
}

#[derive(Clone, Copy, Debug)]
enum Verdict {
    Return,
    Accept,
    Masquerade { random_fully: bool },
}

impl Table {
    /// The table for the purposes that are wanted. The order of the rules and what they mean is that of iptables.
    pub(crate) fn new(
        owner: Owner,
        networks: &FamilyRules,
        purposes: &[Purpose],
        random_fully: bool,
    ) -> Self {
        let family = Family::of(networks.cluster.addr());
        let chains = purposes
            .iter()
            .map(|purpose| match purpose {
                Purpose::Masquerade => Chain {
                    name: "postrtg",
                    comment: "chain to manage traffic masquerading by flannel",
                    kind: "nat",
                    hook: "postrouting",
                    priority: 100,
                    rules: masquerade(networks, random_fully),
                },
                Purpose::Forward => Chain {
                    name: "forward",
                    comment: "chain to accept flannel traffic",
                    kind: "filter",
                    hook: "forward",
                    priority: 0,
                    rules: forward(networks),
                },
            })
            .collect();
        Self { family, owner, chains }
    }

    /// One transaction that replaces whatever the table is now.
    pub(crate) fn script(&self, comments: bool) -> String {
        let (protocol, name) = (protocol(self.family), table_name(self.family, &self.owner));
        let comment = |indent: &str, text: &str| comments.then(|| format!("{indent}comment \"{text}\""));
        // It has to be there to be deleted.
        let mut lines =
            vec![format!("add table {protocol} {name}"), format!("delete table {protocol} {name}")];
        lines.push(format!("table {protocol} {name} {{"));
        lines.extend(comment("\t", &format!("rules for {name}")));
        for chain in &self.chains {
            lines.push(format!("\tchain {} {{", chain.name));
            lines.extend(comment("\t\t", chain.comment));
            let Chain { kind, hook, priority, .. } = chain;
            lines.push(format!("\t\ttype {kind} hook {hook} priority {priority}; policy accept;"));
            lines.extend(chain.rules.iter().map(|rule| format!("\t\t{}", rule.text(protocol))));
            lines.push("\t}".into());
        }
        lines.extend(["}".into(), String::new()]);
        lines.join("\n")
    }

    /// What `nft -j list table` should say: each chain with how it is hooked in, and each chain with each of its rules.
    pub(crate) fn expected(&self) -> Vec<Value> {
        let protocol = protocol(self.family);
        let mut expected = Vec::new();
        for chain in &self.chains {
            expected.push(json!({
                "chain": chain.name, "type": chain.kind, "hook": chain.hook, "prio": chain.priority,
                "policy": "accept",
            }));
            expected.extend(
                chain.rules.iter().map(|rule| json!({ "rule": chain.name, "expr": rule.json(protocol) })),
            );
        }
        expected
    }
}

fn masquerade(networks: &FamilyRules, random_fully: bool) -> Vec<Rule> {
    let (cluster, subnet) = (networks.cluster.trunc(), networks.subnet.trunc());
    let multicast =
        multicast(Family::of(cluster.addr())).parse().unwrap_or_else(|_| unreachable!("a constant network"));
    let masquerade = Verdict::Masquerade { random_fully };
    let rule = |source: (bool, IpNet), destination: (bool, IpNet), verdict| Rule {
        matches: vec![
            Match::Address { field: "saddr", is: source.0, network: source.1 },
            Match::Address { field: "daddr", is: destination.0, network: destination.1 },
        ],
        verdict,
    };
    vec![
        // One bit of the mark, not the whole: other programs use other bits.
        Rule { matches: vec![Match::Marked], verdict: Verdict::Return },
        rule((true, subnet), (true, cluster), Verdict::Return),
        rule((true, cluster), (true, subnet), Verdict::Return),
        // Not upstream's `saddr != subnet daddr cluster`, which keeps packets from the last rule.
        rule((false, cluster), (true, subnet), Verdict::Return),
        rule((true, cluster), (false, multicast), masquerade),
        rule((false, cluster), (true, cluster), masquerade),
    ]
}

fn forward(networks: &FamilyRules) -> Vec<Rule> {
    let accept = |field| Rule {
        matches: vec![Match::Address { field, is: true, network: networks.cluster.trunc() }],
        verdict: Verdict::Accept,
    };
    vec![accept("saddr"), accept("daddr")]
}

impl Rule {
    fn text(&self, protocol: &str) -> String {
        let matches = self.matches.iter().map(|part| part.text(protocol));
        matches.chain([self.verdict.text().to_owned()]).collect::<Vec<_>>().join(" ")
    }

    fn json(&self, protocol: &str) -> Vec<Value> {
        self.matches.iter().map(|part| part.json(protocol)).chain([self.verdict.json()]).collect()
    }
}

impl Match {
    fn text(self, protocol: &str) -> String {
        match self {
            Self::Marked => format!("meta mark & {MARK:#x} == {MARK:#x}"),
            Self::Address { field, is, network } => {
                format!("{protocol} {field} {}{network}", if is { "" } else { "!= " })
            }
        }
    }

    fn json(self, protocol: &str) -> Value {
        match self {
            Self::Marked => {
                json!({ "match": { "op": "==", "left": { "&": [{ "meta": { "key": "mark" } }, MARK] }, "right": MARK } })
            }
            Self::Address { field, is, network } => {
                let right = if network.prefix_len() == network.max_prefix_len() {
                    json!(network.addr().to_string())
                } else {
                    json!({ "prefix": { "addr": network.addr().to_string(), "len": network.prefix_len() } })
                };
                let left = json!({ "payload": { "protocol": protocol, "field": field } });
                json!({ "match": { "op": if is { "==" } else { "!=" }, "left": left, "right": right } })
            }
        }
    }
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::Return => "return",
            Self::Accept => "accept",
            Self::Masquerade { random_fully: false } => "masquerade",
            Self::Masquerade { random_fully: true } => "masquerade fully-random",
        }
    }

    fn json(self) -> Value {
        match self {
            Self::Return => json!({ "return": null }),
            Self::Accept => json!({ "accept": null }),
            Self::Masquerade { random_fully: false } => json!({ "masquerade": null }),
            Self::Masquerade { random_fully: true } => json!({ "masquerade": { "flags": "fully-random" } }),
        }
    }
}
