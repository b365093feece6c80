//! What an instance can ask about itself, at 100.100.100.200.

use std::net::IpAddr;

use super::shared::Inner;
use super::vpc::{VPC, VSWITCH};
use super::{REGION, ROLE, instance_at};
use crate::cloud::server::{Question, Reply};

/// What every session of the hardened mode is given. It is bound to the instance.
fn token_of(from: IpAddr) -> String {
    format!("made-up-metadata-token-of-{}", instance_at(from))
}

/// The answer. Instances are told apart by their addresses.
pub(super) fn answer(inner: &mut Inner, question: &Question) -> Reply {
    let text = |status: u16, body: &str| Reply::new(status, "text/plain", body);
    if question.path() == "/latest/api/token" {
        let seconds = question.header("x-aliyun-ecs-metadata-token-ttl-seconds");
        let seconds = seconds.and_then(|seconds| seconds.parse().ok());
        let is_valid = seconds.is_some_and(|seconds: u32| (1..=21_600).contains(&seconds));
        return match question.method.as_str() {
            "PUT" if is_valid => text(200, &token_of(question.from)),
            "PUT" => text(400, ""),
            _ => text(405, ""),
        };
    }
    let given = question.header("x-aliyun-ecs-metadata-token");
    let is_known = given.is_some_and(|given| given == token_of(question.from));
    if question.method != "GET" || (given.is_some() || inner.hardened) && !is_known {
        return text(403, "");
    }
    let Some(path) = question.path().strip_prefix("/latest/meta-data/") else { return text(404, "") };
    found(inner, path, question.from).map_or_else(|| text(404, ""), |body| text(200, &body))
}

fn found(inner: &mut Inner, path: &str, from: IpAddr) -> Option<String> {
    let IpAddr::V4(address) = from else { return None };
    let [_, _, third, fourth] = address.octets();
    let mac = format!("00:16:3e:00:{third:02x}:{fourth:02x}");
    let answer = match path {
        "region-id" => REGION.to_owned(),
        "zone-id" => format!("{REGION}-b"),
        "instance-id" => instance_at(from),
        "owner-account-id" => "1234567890123456".to_owned(),
        "vpc-id" => VPC.to_owned(),
        "vswitch-id" => VSWITCH.to_owned(),
        "mac" => mac,
        "private-ipv4" => from.to_string(),
        "network/interfaces/macs/" => format!("{mac}/"),
        "ram/security-credentials/" => ROLE.to_owned(),
        _ => {
            if let Some(of_interface) = path.strip_prefix(&format!("network/interfaces/macs/{mac}/")) {
                return Some(match of_interface {
                    "network-interface-id" => instance_at(from).replacen("i-", "eni-", 1),
                    "primary-ip-address" => from.to_string(),
                    "private-ipv4s" => format!("[\"{from}\"]"),
                    "vpc-id" => VPC.to_owned(),
                    "vswitch-id" => VSWITCH.to_owned(),
                    "netmask" => "255.255.255.0".to_owned(),
                    _ => return None,
                });
            }
            let asked = path.strip_prefix("ram/security-credentials/")?;
            return (asked == ROLE).then(|| inner.account.session().to_string());
        }
    };
    Some(answer)
}
