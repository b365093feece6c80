//! Reading what `iptables-save` prints.

use std::net::IpAddr;

use ipnet::IpNet;

use super::rules::Chain;
use crate::ownership::OwnNetworks;
use crate::rules::{Owner, Purpose};

/// The lines of one table.
fn table<'a>(saved: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let start = format!("*{name}");
    saved
        .lines()
        .map(str::trim)
        .skip_while(move |line| *line != start)
        .skip(1)
        .take_while(|line| *line != "COMMIT")
}

fn is_declared(saved: &str, chain: &Chain) -> bool {
    let start = format!(":{} ", chain.name);
    table(saved, chain.table).any(|line| line.starts_with(&start))
}

fn rules_in<'a>(saved: &'a str, chain: &Chain) -> impl Iterator<Item = &'a str> {
    let start = format!("-A {} ", chain.name);
    table(saved, chain.table).filter(move |line| line.starts_with(&start))
}

fn rules_elsewhere<'a>(saved: &'a str, chain: &Chain) -> impl Iterator<Item = &'a str> {
    let start = format!("-A {} ", chain.name);
    table(saved, chain.table).filter(move |line| line.starts_with("-A ") && !line.starts_with(&start))
}

/// What a rule with our comment looks like.
fn has_comment(rule: &str, chain: &Chain) -> bool {
    rule.contains(&format!("--comment \"{}\"", chain.comment))
}

fn leads_to(rule: &str, chain: &Chain) -> bool {
    let words: Vec<&str> = rule.split_whitespace().collect();
    words.windows(2).any(|pair| matches!(pair[0], "-j" | "-g") && pair[1] == chain.name)
}

/// The networks that a rule names, as source or destination, or as what these are not.
fn networks(rule: &str) -> impl Iterator<Item = IpNet> {
    let words: Vec<&str> = rule.split_whitespace().collect();
    let named: Vec<IpNet> = words
        .windows(2)
        .filter(|pair| matches!(pair[0], "-s" | "-d"))
        .filter_map(|pair| pair[1].parse().ok().or_else(|| pair[1].parse().ok().map(|ip: IpAddr| ip.into())))
        .collect();
    named.into_iter()
}

/// Whether a rule is that of a daemon for another network.
fn is_foreign(rule: &str, chain: &Chain, own: &OwnNetworks) -> bool {
    has_comment(rule, chain) && own.is_foreign(networks(rule))
}

/// Whether a rule is the same whatever the network is.
pub(super) fn is_common(rule: &str) -> bool {
    networks(rule).next().is_none()
}

/// Rules in the chain that are those of a daemon for another network, in their order.
pub(crate) fn foreign(saved: &str, chain: &Chain, own: &OwnNetworks) -> Vec<String> {
    rules_in(saved, chain).filter(|rule| is_foreign(rule, chain, own)).map(str::to_owned).collect()
}

/// What there is of ours, in the order of [`listing`](super::rules::listing): the chain, the rules elsewhere that have our
/// comment, the chain's own rules.
pub(crate) fn view(saved: &str, chain: &Chain, own: &OwnNetworks) -> Vec<String> {
    let declared = is_declared(saved, chain).then(|| chain.declaration());
    let jumps = rules_elsewhere(saved, chain).filter(|rule| has_comment(rule, chain)).map(str::to_owned);
    let rules = rules_in(saved, chain).filter(|rule| !is_foreign(rule, chain, own)).map(str::to_owned);
    declared.into_iter().chain(jumps).chain(rules).collect()
}

/// What has to go before the chain can, and whether there is anything of ours at all: the rules elsewhere that have our
/// comment or lead to the chain.
pub(super) fn leftovers(saved: &str, chain: &Chain) -> Option<(bool, Vec<String>)> {
    let declared = is_declared(saved, chain);
    let rules: Vec<String> = rules_elsewhere(saved, chain)
        .filter(|rule| has_comment(rule, chain) || leads_to(rule, chain))
        .map(str::to_owned)
        .collect();
    (declared || !rules.is_empty()).then_some((declared, rules))
}

/// Whose chains there are for a purpose; the only daemon's in any case, whose rules elsewhere may be there without it.
pub(super) fn owners(saved: &str, purpose: Purpose) -> Vec<Owner> {
    let plain = Chain::of(purpose, &Owner::default());
    let start = format!(":{}-", plain.name);
    let names =
        table(saved, plain.table).filter_map(|line| line.strip_prefix(&start)?.split_whitespace().next());
    std::iter::once(Owner::default()).chain(names.map(Owner::of)).collect()
}
