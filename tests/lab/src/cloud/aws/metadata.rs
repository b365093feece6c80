//! The metadata service (IMDS), which answers each instance by the address that asks.
//!
//! Source: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html>

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::json;

use super::credentials::{ROLE, written};
use super::fault::{self, Fault, Refusal};
use super::state::{Machine, State};
use crate::cloud::server::{Question, Reply};

const LIFETIME: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";
/// Seconds that a token may be good for.
const LIFETIMES: std::ops::RangeInclusive<u64> = 1..=21_600;
const ROLES: &str = "meta-data/iam/security-credentials/";

/// Which versions of the service there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Tokens are given, and not asked for.
    #[default]
    Both,
    /// Nothing without a token.
    TokensOnly,
    /// There are no tokens.
    NoTokens,
}

/// The tokens that were given.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) mode: Mode,
    tokens: BTreeMap<String, (IpAddr, Instant)>,
}

/// Answers an instance.
pub(super) fn answer(state: &mut State, question: &Question) -> Reply {
    let fault = state.faults.take(fault::METADATA);
    match (fault, fault.and_then(Refusal::of)) {
        (Some(Fault::Silence(time) | Fault::Unheard(time)), _) => return Reply::Silence(time),
        (_, Some(refusal)) => return page(refusal.status),
        _ => {}
    }
    let machine =
        state.machines.iter().find(|machine| IpAddr::from(machine.address) == question.from).cloned();
    let (Some(machine), Some(path)) = (machine, question.path().strip_prefix("/latest/")) else {
        return page(404);
    };
    if path == "api/token" {
        return token(state, question);
    }
    match question.header(TOKEN) {
        Some(token) if state.sessions.mode != Mode::NoTokens => {
            let known = state.sessions.tokens.get(token);
            if known.is_none_or(|(owner, end)| *owner != question.from || *end <= Instant::now()) {
                return page(401);
            }
        }
        None if state.sessions.mode == Mode::TokensOnly => return page(401),
        _ => {}
    }
    if question.method != "GET" {
        return page(405);
    }
    let reply = if machine.has_role && path == format!("{ROLES}{ROLE}") {
        text(&credentials(state, &machine))
    } else {
        find(&leaves(state, &machine), path)
    };
    match (fault, reply) {
        (Some(Fault::Half), Reply::Whole { body, .. }) => {
            let half = body.len() / 2;
            Reply::Half(body, half)
        }
        (_, reply) => reply,
    }
}

fn token(state: &mut State, question: &Question) -> Reply {
    if state.sessions.mode == Mode::NoTokens {
        return page(404);
    }
    if question.method != "PUT" {
        return page(405);
    }
    // A request that was forwarded comes from somewhere else than the instance.
    if question.header("x-forwarded-for").is_some() {
        return page(403);
    }
    let seconds = question.header(LIFETIME).and_then(|text| text.parse().ok());
    let Some(seconds) = seconds.filter(|seconds| LIFETIMES.contains(seconds)) else { return page(400) };
    let name = format!("made-up-session-{}==", state.sessions.tokens.len());
    let end = Instant::now() + Duration::from_secs(seconds);
    state.sessions.tokens.insert(name.clone(), (question.from, end));
    let mut reply = text(&name);
    if let Reply::Whole { headers, .. } = &mut reply {
        headers.push((LIFETIME.to_owned(), seconds.to_string()));
    }
    reply
}

fn credentials(state: &mut State, machine: &Machine) -> String {
    let key = state.credentials.of_instance(&machine.instance);
    let end = key.ends.unwrap_or(key.begins);
    let value = json!({
        "Code": "Success",
        "LastUpdated": written(key.begins),
        "Type": "AWS-HMAC",
        "AccessKeyId": key.id,
        "SecretAccessKey": key.secret,
        "Token": key.token,
        "Expiration": written(end),
    });
    format!("{value:#}")
}

/// All texts by their paths.
fn leaves(state: &State, machine: &Machine) -> BTreeMap<String, String> {
    let site = &state.site;
    let document = json!({
        "accountId": site.account,
        "architecture": "x86_64",
        "availabilityZone": site.zone,
        "billingProducts": null,
        "devpayProductCodes": null,
        "marketplaceProductCodes": null,
        "imageId": "ami-0123456789abcdef0",
        "instanceId": machine.instance,
        "instanceType": "t3.micro",
        "kernelId": null,
        "pendingTime": "2026-01-01T00:00:00Z",
        "privateIp": machine.address,
        "ramdiskId": null,
        "region": site.region,
        "version": "2017-09-30",
    });
    let interface = |name: &str| format!("meta-data/network/interfaces/macs/{}/{name}", machine.mac);
    let mut leaves = BTreeMap::from([
        ("dynamic/instance-identity/document".to_owned(), format!("{document:#}")),
        ("meta-data/instance-id".to_owned(), machine.instance.clone()),
        ("meta-data/hostname".to_owned(), machine.name.clone()),
        ("meta-data/local-ipv4".to_owned(), machine.address.to_string()),
        ("meta-data/mac".to_owned(), machine.mac.clone()),
        ("meta-data/placement/availability-zone".to_owned(), site.zone.clone()),
        ("meta-data/placement/region".to_owned(), site.region.clone()),
        (interface("device-number"), "0".to_owned()),
        (interface("interface-id"), machine.interface.clone()),
        (interface("local-ipv4s"), machine.address.to_string()),
        (interface("mac"), machine.mac.clone()),
        (interface("owner-id"), site.account.clone()),
        (interface("subnet-id"), site.subnet.clone()),
        (interface("subnet-ipv4-cidr-block"), "192.168.77.0/24".to_owned()),
        (interface("vpc-id"), site.vpc.clone()),
        (interface("vpc-ipv4-cidr-block"), "192.168.0.0/16".to_owned()),
    ]);
    if let Some(address) = machine.address_v6 {
        leaves.insert(interface("ipv6s"), address.to_string());
    }
    if machine.has_role {
        // What is in there is made only for those who ask for it.
        leaves.insert(format!("{ROLES}{ROLE}"), String::new());
    }
    leaves
}

/// A text, or the names of what is in a directory.
fn find(leaves: &BTreeMap<String, String>, path: &str) -> Reply {
    if let Some(leaf) = leaves.get(path) {
        return text(leaf);
    }
    let directory = format!("{}/", path.trim_end_matches('/'));
    let mut names: Vec<String> = leaves
        .keys()
        .filter_map(|leaf| leaf.strip_prefix(&directory))
        .map(|rest| rest.split_once('/').map_or_else(|| rest.to_owned(), |(name, _)| format!("{name}/")))
        .collect();
    names.dedup();
    if names.is_empty() { page(404) } else { text(&names.join("\n")) }
}

fn text(body: &str) -> Reply {
    Reply::new(200, "text/plain", body)
}

fn page(status: u16) -> Reply {
    let head = "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n";
    let body =
        format!("{head}<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>\n");
    Reply::new(status, "text/html", body)
}
