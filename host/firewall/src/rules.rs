//! What is wanted, as data.

use std::fmt;
use std::sync::Arc;

use flannel_base::Family;
use ipnet::IpNet;

/// What the rules are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Chains in the tables `nat` and `filter`, by `iptables-restore` and `ip6tables-restore`.
    Iptables,
    /// Tables of our own, by `nft`.
    Nftables,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        })
    }
}

/// The networks of one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyRules {
    /// The network of all pods.
    pub cluster: IpNet,
    /// The subnet of this node's pods.
    pub subnet: IpNet,
}

/// Whose rules they are. Those of the only daemon have upstream's names; where others run beside it, those of the others have names with
/// something behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner(Option<Arc<str>>);

impl Owner {
    /// One that runs beside another. `name`: up to 8 letters, digits or `_`, else no chain could have it in its name.
    pub fn of(name: &str) -> Self {
        Self(Some(name.into()))
    }

    /// The name of something of this owner's.
    pub(super) fn name(&self, separator: char, name: &str) -> String {
        match &self.0 {
            Some(owner) => format!("{name}{separator}{owner}"),
            None => name.to_owned(),
        }
    }
}

/// Of whose rules something is to be removed.
#[derive(Clone, Debug)]
pub(super) enum Owners {
    These(Vec<Owner>),
    All,
}

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Rules {
    /// Whose they are.
    pub owner: Owner,
    /// Others whose rules are not wanted: what this daemon was called before.
    pub former: Vec<Owner>,
    /// What this daemon's tables are called where an upstream daemon for another network has those of `owner`.
    pub beside: Option<Owner>,
    /// Networks that the cluster had before: rules for them are not another daemon's.
    pub former_networks: Vec<IpNet>,
    /// The families that are in use, each at most once. Rules of others are removed.
    pub families: Vec<FamilyRules>,
    /// Masquerade what pods send to the outside (`--ip-masq`).
    pub masquerade: bool,
    /// Let masquerading choose source ports at random, where the programs know how.
    pub random_fully: bool,
    /// Accept forwarded packets from and to pods (`--iptables-forward-rules`).
    pub forward: bool,
    /// A kubelet is on this node: rules of iptables go where its are, once it has made some.
    pub beside_kubelet: bool,
}

impl Rules {
    pub(super) fn family(&self, family: Family) -> Option<&FamilyRules> {
        self.families.iter().find(|rules| Family::of(rules.cluster.addr()) == family)
    }

    pub(super) fn wants(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Masquerade => self.masquerade,
            Purpose::Forward => self.forward,
        }
    }
}

/// What is never masqueraded: it has no one receiver that could answer.
pub(super) fn multicast(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "224.0.0.0/4",
        Family::Ipv6 => "ff00::/8",
    }
}

/// What a chain is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Masquerade,
    Forward,
}

impl Purpose {
    pub(crate) const ALL: [Self; 2] = [Self::Masquerade, Self::Forward];
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Masquerade => "masquerade",
            Self::Forward => "forward",
        })
    }
}
