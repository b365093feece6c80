//! What the VPC API's operations on route entries reach: <https://help.aliyun.com/document_detail/36012.html>.

use serde::Deserialize;

use crate::reach::{Reach, Rule, apply_to_each, destinations, regions};
use crate::request::{Answer, Failure, Request};

const SERVICE: &str = "vpc";
const VERSIONS: &[&str] = &["2016-04-28"];
const PLAIN: Option<&[&str]> = Some(&[
    "RegionId",
    "ClientToken",
    "DryRun",
    "Description",
    "RouteEntryName",
    "IpVersion",
    "NextHopType",
    "NewNextHopType",
]);
/// What the parameters of several entries in one call begin with, before their number.
const ENTRIES: &str = "RouteEntries";

const CREATE: Rule = Rule {
    versions: VERSIONS,
    destinations: &["DestinationCidrBlock"],
    nodes: &["NextHopId"],
    tables: &["RouteTableId"],
    plain: PLAIN,
    ..Rule::EMPTY
};
const DELETE: Rule = Rule {
    versions: VERSIONS,
    destinations: &["DestinationCidrBlock"],
    routes: &["RouteEntryId"],
    tables: &["RouteTableId"],
    // Which of several entries for a destination it is.
    plain: Some(&["RegionId", "ClientToken", "DryRun", "NextHopId"]),
    ..Rule::EMPTY
};
const MODIFY: Rule = Rule {
    versions: VERSIONS,
    destinations: &["DestinationCidrBlock"],
    routes: &["RouteEntryId"],
    nodes: &["NewNextHopId"],
    tables: &["RouteTableId"],
    plain: PLAIN,
    ..Rule::EMPTY
};
/// What is beside the entries where there are several.
const BESIDE: Rule = Rule { versions: VERSIONS, tables: &["RouteTableId"], plain: PLAIN, ..Rule::EMPTY };
const CREATE_EACH: Rule =
    Rule { destinations: &["DstCidrBlock"], nodes: &["NextHop"], plain: EACH, ..CREATE };
const DELETE_EACH: Rule = Rule { destinations: &["DstCidrBlock"], plain: Some(&["NextHop"]), ..DELETE };
const EACH: Option<&[&str]> = Some(&["NextHopType", "IpVersion", "Name", "Describption", "Description"]);

/// What an action reaches.
pub(crate) fn reaches(
    request: &Request,
    action: &str,
    parameters: &[(String, String)],
) -> Result<Vec<Reach>, Failure> {
    let mut all: Vec<Reach> = regions(parameters).collect();
    let is_reading = ["Describe", "Get", "List"].iter().any(|begin| action.starts_with(begin));
    let (rule, each) = match action {
        "CreateRouteEntry" => (&CREATE, None),
        "DeleteRouteEntry" => (&DELETE, None),
        "ModifyRouteEntry" => (&MODIFY, None),
        "CreateRouteEntries" => (&BESIDE, Some(&CREATE_EACH)),
        "DeleteRouteEntries" => (&BESIDE, Some(&DELETE_EACH)),
        _ if is_reading => return Ok(all),
        _ => {
            all.extend(destinations(action, parameters)?);
            return Ok(all);
        }
    };
    if request.service != SERVICE {
        all.extend(destinations(action, parameters)?);
        return Ok(all);
    }
    rule.check_version(action, &request.version)?;
    all.extend(match each {
        Some(each) => apply_to_each(action, ENTRIES, 1, (rule, each), parameters)?,
        None => rule.apply(action, parameters)?,
    });
    Ok(all)
}

/// The routes that an answer lists: identifiers and destinations.
pub(crate) fn routes(request: &Request, action: &str, answer: &Answer) -> Vec<(String, String)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct List {
        route_entrys: Entries,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entries {
        route_entry: Vec<Entry>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entry {
        // Those to prefix lists have other members.
        #[serde(default)]
        route_entry_id: String,
        #[serde(default)]
        destination_cidr_block: String,
    }
    if request.service != SERVICE || action != "DescribeRouteEntryList" {
        return Vec::new();
    }
    let list = serde_json::from_str::<List>(&answer.body).map(|list| list.route_entrys.route_entry);
    let entries = list.unwrap_or_default().into_iter();
    entries.map(|entry| (entry.route_entry_id, entry.destination_cidr_block)).collect()
}
