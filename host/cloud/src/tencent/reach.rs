//! What the VPC API's operations on routes reach: <https://www.tencentcloud.com/document/product/215/16724>.

use serde::Deserialize;

use crate::reach::{Reach, Rule, Target, apply_to_each, destinations, regions};
use crate::request::{Answer, Failure, Request};

const SERVICE: &str = "vpc";
const VERSIONS: &[&str] = &["2017-03-12"];
const TABLE: &str = "RouteTableId";
/// What the parameters of each route begin with, before its number, which is counted from 0.
const ROUTES: &str = "Routes";
/// Of operations that take nothing of a route but its identifier: by number, and by name.
const IDENTIFIERS: [&str; 2] = ["RouteIds", "RouteItemIds"];
const DESTINATIONS: &[&str] = &["DestinationCidrBlock", "DestinationIpv6CidrBlock"];
const IDENTIFIER: &[&str] = &["RouteId", "RouteItemId"];

const BESIDE: Rule = Rule { versions: VERSIONS, tables: &[TABLE], plain: Some(&[]), ..Rule::EMPTY };
const CREATE: Rule = Rule {
    destinations: DESTINATIONS,
    nodes: &["GatewayId"],
    plain: Some(&["GatewayType", "RouteDescription", "Enabled"]),
    ..Rule::EMPTY
};
const REPLACE: Rule = Rule { routes: IDENTIFIER, ..CREATE };
const DELETE: Rule = Rule { destinations: DESTINATIONS, routes: IDENTIFIER, plain: Some(&[]), ..Rule::EMPTY };

/// What an action reaches.
pub(crate) fn reaches(
    request: &Request,
    action: &str,
    parameters: &[(String, String)],
) -> Result<Vec<Reach>, Failure> {
    let mut all: Vec<Reach> = regions(parameters).collect();
    let is_reading = ["Describe", "Get", "List"].iter().any(|begin| action.starts_with(begin));
    if is_reading {
        return Ok(all);
    }
    let each = match action {
        "CreateRoutes" => Some(&CREATE),
        "ReplaceRoutes" => Some(&REPLACE),
        "DeleteRoutes" => Some(&DELETE),
        "EnableRoutes" | "DisableRoutes" => None,
        _ => {
            all.extend(destinations(action, parameters)?);
            return Ok(all);
        }
    };
    if request.service != SERVICE {
        all.extend(destinations(action, parameters)?);
        return Ok(all);
    }
    BESIDE.check_version(action, &request.version)?;
    let reached = match each {
        Some(each) => apply_to_each(action, ROUTES, 0, (&BESIDE, each), parameters)?,
        None => switched(action, parameters)?,
    };
    // Numbers of routes are a table's.
    let table = parameters.iter().find(|(name, _)| name == TABLE).map_or("", |(_, table)| table.as_str());
    all.extend(reached.into_iter().map(|reach| match reach.target {
        Target::Route(_) => Reach { value: format!("{table}/{}", reach.value), ..reach },
        _ => reach,
    }));
    Ok(all)
}

/// What operations reach that turn routes on and off.
fn switched(action: &str, parameters: &[(String, String)]) -> Result<Vec<Reach>, Failure> {
    let is_id = |name: &str| name.split_once('.').is_some_and(|(list, _)| IDENTIFIERS.contains(&list));
    let (ids, others): (Vec<_>, Vec<_>) = parameters.iter().cloned().partition(|(name, _)| is_id(name));
    if ids.is_empty() {
        return Err(Failure::Denied(format!("{action} without {}.0", IDENTIFIERS.join(".0 or "))));
    }
    let mut all = BESIDE.apply(action, &others)?;
    let routes = ids.into_iter();
    all.extend(routes.map(|(name, value)| Reach { name, value, target: Target::Route(None), segment: None }));
    Ok(all)
}

/// The routes that an answer lists: by table and identifier, and their destinations.
pub(crate) fn routes(request: &Request, action: &str, answer: &Answer) -> Vec<(String, String)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Body {
        response: Tables,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Tables {
        route_table_set: Vec<Table>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Table {
        route_table_id: String,
        #[serde(default)]
        route_set: Vec<Listed>,
    }
    // What a route does not have is missing, or `null`.
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Listed {
        route_id: Option<u64>,
        route_item_id: Option<String>,
        destination_cidr_block: Option<String>,
        destination_ipv6_cidr_block: Option<String>,
    }
    if request.service != SERVICE || action != "DescribeRouteTables" {
        return Vec::new();
    }
    let Ok(body) = serde_json::from_str::<Body>(&answer.body) else { return Vec::new() };
    let mut all = Vec::new();
    for Table { route_table_id: table, route_set } in body.response.route_table_set {
        for route in route_set {
            let destinations = [route.destination_cidr_block, route.destination_ipv6_cidr_block];
            let Some(destination) = destinations.into_iter().flatten().find(|text| !text.is_empty()) else {
                continue;
            };
            let ids = [route.route_id.map(|id| id.to_string()), route.route_item_id];
            let ids = ids.into_iter().flatten().filter(|id| !id.is_empty());
            all.extend(ids.map(|id| (format!("{table}/{id}"), destination.clone())));
        }
    }
    all
}
