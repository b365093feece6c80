//! Blackhole routes for the node's own subnets.

use super::{Transaction, becomes, in_namespace, ip, prefix, state};

const V4: &str = "blackhole 10.5.72.0/24 metric 4294967294";
const V6: &str = "blackhole fc00:5:0:72::/64 dev lo metric 4294967294";

fn blackholes(subnets: &[&str]) -> Transaction {
    Transaction {
        blackholes: Some(subnets.iter().map(|subnet| prefix(subnet)).collect()),
        ..Transaction::default()
    }
}

/// The kernel's blackhole routes, in iproute2's words.
fn there() -> Vec<String> {
    let routes = state();
    let routes = routes.lines().filter(|line| line.starts_with("blackhole"));
    let without_protocol =
        |line: &str| line.replace(" proto boot", "").replace(" proto static", "").replace(" pref medium", "");
    routes.map(without_protocol).collect()
}

#[test]
fn both_families_have_one_and_it_goes_with_the_subnet() {
    in_namespace(|node| {
        let report = node.commit(blackholes(&["10.5.72.0/24", "fc00:5:0:72::/64"]));
        assert!(report.failures.is_empty(), "{report:?}");
        assert_eq!(there(), [V4, V6]);
        node.commit(blackholes(&["10.5.73.0/24"]));
        assert_eq!(there(), ["blackhole 10.5.73.0/24 metric 4294967294"]);
        node.commit(blackholes(&[]));
        assert!(there().is_empty(), "{:?}", there());
    });
}

#[test]
fn one_that_is_there_already_costs_no_message() {
    in_namespace(|node| {
        // As earlier versions made them.
        ip("route add blackhole 10.5.72.0/24 metric 4294967294 proto static");
        node.with_peers();
        node.commit(blackholes(&["10.5.72.0/24"]));
        let before = node.messages();
        node.commit(blackholes(&["10.5.72.0/24"]));
        assert_eq!((there(), node.messages()), (vec![V4.to_owned()], before));
    });
}

#[test]
fn one_that_others_delete_comes_back() {
    in_namespace(|node| {
        node.with_peers();
        node.commit(blackholes(&["10.5.72.0/24", "fc00:5:0:72::/64"]));
        let whole = state();
        for deletion in ["route del blackhole 10.5.72.0/24", "-6 route del blackhole fc00:5:0:72::/64"] {
            ip(deletion);
            becomes(&whole);
        }
    });
}

#[test]
fn those_of_former_subnets_go_and_those_of_others_stay() {
    in_namespace(|node| {
        for other in ["10.5.80.0/24", "10.5.81.0/24 metric 7", "10.77.0.0/24 metric 4294967294"] {
            ip(&format!("route add blackhole {other}"));
        }
        ip("route add blackhole 10.5.71.0/24 metric 4294967294 proto static");
        node.commit(blackholes(&["10.5.72.0/24"]));
        node.with_peers();
        let mut expected = [
            "blackhole 10.5.80.0/24",
            "blackhole 10.5.81.0/24 metric 7",
            "blackhole 10.77.0.0/24 metric 4294967294",
            V4,
        ];
        expected.sort_unstable();
        assert_eq!(there(), expected);
    });
}

#[test]
fn one_stays_while_its_subnet_is_taken_by_the_pods_bridge() {
    in_namespace(|node| {
        node.commit(blackholes(&["10.5.72.0/24"]));
        ip("link add cni0 type bridge");
        ip("link set cni0 up");
        ip("address add 10.5.72.1/24 dev cni0");
        assert_eq!(there(), [V4]);
        assert!(ip("route get 10.5.72.9").contains("dev cni0"), "the pods' route comes first");
    });
}
