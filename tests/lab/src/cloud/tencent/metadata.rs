//! What an instance can ask about itself: <https://www.tencentcloud.com/document/product/213/4934>.

use std::net::IpAddr;

use super::REGION;
use super::state::{SUBNET, State, VPC};
use crate::cloud::server::{Question, Reply};

/// The CAM role of all nodes.
const ROLE: &str = "FlannelNode";

/// The answer. Instances are told apart by their addresses.
pub(super) fn answer(state: &mut State, question: &Question) -> Reply {
    let path = question.path().strip_prefix("/latest/meta-data/").filter(|_| question.method == "GET");
    let found = path.and_then(|path| found(state, path, question.from));
    found.map_or_else(|| Reply::new(404, "text/plain", ""), |body| Reply::new(200, "text/plain", body))
}

fn found(state: &mut State, path: &str, from: IpAddr) -> Option<String> {
    let IpAddr::V4(address) = from else { return None };
    let [_, _, third, fourth] = address.octets();
    // In capitals, as the real one has it.
    let mac = format!("52:54:00:00:{third:02X}:{fourth:02X}");
    if let Some(of_interface) = path.strip_prefix(&format!("network/interfaces/macs/{mac}/")) {
        return Some(match of_interface {
            "primary-local-ipv4" => from.to_string(),
            "local-ipv4s/" => format!("{from}/"),
            "vpc-id" => VPC.to_owned(),
            "subnet-id" => SUBNET.to_owned(),
            _ => return None,
        });
    }
    if let Some(asked) = path.strip_prefix("cam/security-credentials/") {
        return match asked {
            _ if !state.has_role => None,
            "" => Some(ROLE.to_owned()),
            ROLE => Some(state.keys().to_string()),
            _ => None,
        };
    }
    Some(match path {
        "placement/region" => REGION.to_owned(),
        "placement/zone" => format!("{REGION}-3"),
        "instance-id" => format!("ins-lab{third:03}{fourth:03}"),
        "app-id" => "1250000000".to_owned(),
        "local-ipv4" => from.to_string(),
        "mac" => mac,
        "network/interfaces/macs/" => format!("{mac}/"),
        _ => return None,
    })
}
