//! Whose rules are those in chains and tables of upstream's names: this daemon's, or those of an upstream daemon that runs beside it for
//! another network. All of upstream's daemons use the same names, and live in the same chains.

use ipnet::IpNet;

/// The networks that are, or were, those of this daemon's cluster. None: all rules are taken for its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OwnNetworks(Vec<IpNet>);

impl OwnNetworks {
    /// One more.
    pub(super) fn add(&mut self, network: IpNet) {
        if !self.0.contains(&network) {
            self.0.push(network);
        }
    }

    /// Whether there is any.
    pub(super) fn is_known(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether a rule that names these networks is another cluster's. One that names none is not.
    pub(super) fn is_foreign(&self, named: impl IntoIterator<Item = IpNet>) -> bool {
        let overlap = |one: &IpNet, other: &IpNet| one.contains(other) || other.contains(one);
        let mut named = named.into_iter().filter(|network| !network.addr().is_multicast()).peekable();
        self.is_known()
            && named.peek().is_some()
            && named.all(|network| !self.0.iter().any(|own| overlap(own, &network)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_for_networks_that_were_never_ours_is_another_daemons() {
        let networks = |texts: &[&str]| -> Vec<IpNet> {
            texts.iter().map(|text| text.parse().expect("network")).collect()
        };
        let mut own = OwnNetworks::default();
        assert!(!own.is_foreign(networks(&["10.6.0.0/16"])), "nothing is known");
        for network in networks(&["10.5.0.0/16", "fc00:5::/48"]) {
            own.add(network);
        }
        for (named, foreign) in [
            (&["10.6.0.0/16"][..], true),
            (&["10.6.7.0/24", "10.6.0.0/16"], true),
            (&["10.6.0.0/16", "224.0.0.0/4"], true),
            (&["fc00:6::/48"], true),
            (&["10.5.7.0/24", "10.5.0.0/16"], false),
            (&["10.0.0.0/8"], false),
            (&["10.5.0.0/16", "10.6.0.0/16"], false),
            (&["224.0.0.0/4"], false),
            (&[], false),
        ] {
            assert_eq!(own.is_foreign(networks(named)), foreign, "{named:?}");
        }
    }
}
