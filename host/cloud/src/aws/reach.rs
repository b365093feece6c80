//! What EC2's operations on routes and interfaces reach. Names are those of the EC2 API Reference.

use crate::reach::{Reach, Rule, destinations, regions};
use crate::request::{Failure, Request};

const SERVICE: &str = "ec2";
const VERSIONS: &[&str] = &["2016-11-15"];
const DESTINATIONS: &[&str] = &["DestinationCidrBlock", "DestinationIpv6CidrBlock"];
const TABLES: &[&str] = &["RouteTableId"];
const HARMLESS: Option<&[&str]> = Some(&["DryRun", "ClientToken"]);

/// A row that leads to a node. Gateways, peerings and endpoints are none.
const TO_NODE: Rule = Rule {
    versions: VERSIONS,
    destinations: DESTINATIONS,
    nodes: &["NetworkInterfaceId", "InstanceId"],
    tables: TABLES,
    plain: HARMLESS,
    ..Rule::EMPTY
};
const ROW: Rule =
    Rule { versions: VERSIONS, destinations: DESTINATIONS, tables: TABLES, plain: HARMLESS, ..Rule::EMPTY };
const INTERFACE: Rule = Rule { versions: VERSIONS, nodes: &["NetworkInterfaceId"], ..Rule::EMPTY };
const INSTANCE: Rule = Rule { versions: VERSIONS, nodes: &["InstanceId"], ..Rule::EMPTY };

fn rule(action: &str) -> Option<&'static Rule> {
    match action {
        "CreateRoute" | "ReplaceRoute" => Some(&TO_NODE),
        "DeleteRoute" => Some(&ROW),
        "ModifyNetworkInterfaceAttribute" | "ResetNetworkInterfaceAttribute" => Some(&INTERFACE),
        "ModifyInstanceAttribute" | "ResetInstanceAttribute" => Some(&INSTANCE),
        _ => None,
    }
}

/// What an action reaches.
pub(crate) fn reaches(
    request: &Request,
    action: &str,
    parameters: &[(String, String)],
) -> Result<Vec<Reach>, Failure> {
    let mut all: Vec<Reach> = regions(parameters).collect();
    let is_reading = ["Describe", "Get", "List", "Search"].iter().any(|begin| action.starts_with(begin));
    match rule(action).filter(|_| request.service == SERVICE) {
        Some(rule) => {
            rule.check_version(action, &request.version)?;
            all.extend(rule.apply(action, parameters)?);
        }
        None if is_reading => {}
        None => all.extend(destinations(action, parameters)?),
    }
    Ok(all)
}
