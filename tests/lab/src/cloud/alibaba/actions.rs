//! The API's actions: parameters in, JSON out, in the shapes that the vendor documents.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::REGION;
use super::fault::Error;
use super::vpc::{Entry, Table, VPC, VROUTER, VSWITCH, Vpc, Wish};
use crate::cloud::server::Question;

const VERSION: &str = "2016-04-28";
/// A page token is this and the number of the next entry.
const PAGE: &str = "FFmyTO70tTpLG6I3FmYAXGKPd";
const MADE: &str = "2026-01-01T00:00:00Z";

type Parameters = BTreeMap<String, String>;

/// All parameters, from the query and from a form.
pub(super) fn parameters(question: &Question) -> Parameters {
    let form = String::from_utf8_lossy(&question.body);
    [question.query(), &form].into_iter().flat_map(Question::parameters).collect()
}

/// The action's name: a header in the newer scheme, a parameter in the older.
pub(super) fn name(question: &Question, parameters: &Parameters) -> String {
    let header = question.header("x-acs-action").map(ToOwned::to_owned);
    let version = question.header("x-acs-version").or(parameters.get("Version").map(String::as_str));
    let name = header.or_else(|| parameters.get("Action").cloned()).unwrap_or_default();
    if version == Some(VERSION) { name } else { format!("{name} of another version") }
}

/// Does it. The answer lacks the request's identifier.
pub(super) fn carry_out(vpc: &mut Vpc, action: &str, parameters: &Parameters) -> Result<Value, Error> {
    match action {
        "DescribeVpcs" => in_region(parameters).and_then(|()| vpcs(vpc, parameters)),
        "DescribeVRouters" => in_region(parameters).and_then(|()| vrouters(vpc, parameters)),
        "DescribeRouteTables" => route_tables(vpc, parameters),
        "DescribeRouteTableList" => in_region(parameters).and_then(|()| route_table_list(vpc, parameters)),
        "DescribeRouteEntryList" => in_region(parameters).and_then(|()| route_entry_list(vpc, parameters)),
        "CreateRouteEntry" => create_route_entry(vpc, parameters),
        "DeleteRouteEntry" => delete_route_entry(vpc, parameters),
        _ => {
            let text = "Specified api is not found, please check your url and method.";
            Err(Error::new(404, "InvalidAction.NotFound", text))
        }
    }
}

fn required<'a>(parameters: &'a Parameters, name: &str) -> Result<&'a str, Error> {
    let text = format!(
        "The input parameter \"{name}\" that is mandatory for processing this request is not supplied."
    );
    let value = parameters.get(name).map(String::as_str).filter(|value| !value.is_empty());
    value.ok_or_else(|| Error::new(400, "MissingParameter", &text))
}

fn in_region(parameters: &Parameters) -> Result<(), Error> {
    let text = "The RegionId provided does not exist in our records.";
    let is_here = required(parameters, "RegionId")? == REGION;
    if is_here { Ok(()) } else { Err(Error::new(404, "InvalidRegionId.NotFound", text)) }
}

/// Whether a parameter is not given, or is this.
fn is_or_any(parameters: &Parameters, name: &str, value: &str) -> bool {
    parameters.get(name).is_none_or(|wanted| wanted == value)
}

/// A part of a list by page number and size, with all that belongs beside it.
fn paged(parameters: &Parameters, all: Vec<Value>, outer: &str, inner: &str) -> Result<Value, Error> {
    let number = |name: &str, usual: usize, most: usize| {
        let text = format!("The specified {name} is not valid.");
        let given = parameters.get(name).map_or(Ok(usual), |value| value.parse());
        given
            .ok()
            .filter(|number| (1..=most).contains(number))
            .ok_or_else(|| Error::new(400, &format!("InvalidParameter.{name}"), &text))
    };
    let (page, size) = (number("PageNumber", 1, usize::MAX)?, number("PageSize", 10, 50)?);
    let count = all.len();
    let part: Vec<Value> = all.into_iter().skip((page - 1).saturating_mul(size)).take(size).collect();
    Ok(json!({ "PageNumber": page, "PageSize": size, "TotalCount": count, outer: { inner: part } }))
}

fn vpcs(vpc: &Vpc, parameters: &Parameters) -> Result<Value, Error> {
    let tables: Vec<&str> = vpc.tables.iter().map(|table| table.id).collect();
    let one = json!({
        "VpcId": VPC,
        "VpcName": "lab",
        "RegionId": REGION,
        "Status": "Available",
        "CidrBlock": "192.168.0.0/16",
        "VRouterId": VROUTER,
        "VSwitchIds": { "VSwitchId": [VSWITCH] },
        "RouterTableIds": { "RouterTableIds": tables },
        "SecondaryCidrBlocks": { "SecondaryCidrBlock": [] },
        "UserCidrs": { "UserCidr": [] },
        "NatGatewayIds": { "NatGatewayIds": [] },
        "CreationTime": MADE,
        "IsDefault": false,
        "Description": "",
        "ResourceGroupId": "rg-lab",
    });
    let found = is_or_any(parameters, "VpcId", VPC).then_some(one);
    paged(parameters, found.into_iter().collect(), "Vpcs", "Vpc")
}

fn vrouters(vpc: &Vpc, parameters: &Parameters) -> Result<Value, Error> {
    let tables: Vec<&str> = vpc.tables.iter().map(|table| table.id).collect();
    let one = json!({
        "VRouterId": VROUTER,
        "VRouterName": "",
        "VpcId": VPC,
        "RegionId": REGION,
        "RouteTableIds": { "RouteTableId": tables },
        "CreationTime": MADE,
        "Description": "",
    });
    let found = is_or_any(parameters, "VRouterId", VROUTER).then_some(one);
    paged(parameters, found.into_iter().collect(), "VRouters", "VRouter")
}

fn tables_asked_for<'a>(vpc: &'a Vpc, parameters: &'a Parameters) -> impl Iterator<Item = &'a Table> {
    vpc.tables.iter().filter(|table| is_or_any(parameters, "RouteTableId", table.id))
}

fn route_tables(vpc: &Vpc, parameters: &Parameters) -> Result<Value, Error> {
    if !parameters.contains_key("RouteTableId") {
        required(parameters, "VRouterId")?;
    }
    let of_router = is_or_any(parameters, "VRouterId", VROUTER);
    let tables = tables_asked_for(vpc, parameters).filter(|_| of_router).map(|table| {
        let entries: Vec<Value> =
            vpc.seen().iter().filter(|entry| entry.table == table.id).map(older_shape).collect();
        json!({
            "RouteTableId": table.id,
            "RouteTableType": table.kind,
            "VRouterId": VROUTER,
            "VSwitchIds": { "VSwitchId": table.vswitches },
            "RouteEntrys": { "RouteEntry": entries },
            "CreationTime": MADE,
            "Status": "Available",
            "ResourceGroupId": "rg-lab",
        })
    });
    paged(parameters, tables.collect(), "RouteTables", "RouteTable")
}

fn route_table_list(vpc: &Vpc, parameters: &Parameters) -> Result<Value, Error> {
    let of_vpc = is_or_any(parameters, "VpcId", VPC) && is_or_any(parameters, "RouterId", VROUTER);
    let tables = tables_asked_for(vpc, parameters)
        .filter(|table| of_vpc && is_or_any(parameters, "RouteTableType", table.kind))
        .map(|table| {
            json!({
                "RouteTableId": table.id,
                "RouteTableName": "",
                "RouteTableType": table.kind,
                "RouterId": VROUTER,
                "RouterType": "VRouter",
                "VpcId": VPC,
                "VSwitchIds": { "VSwitchId": table.vswitches },
                "AssociateType": "VSwitch",
                "Status": "Available",
                "Tags": { "Tag": [] },
                "CreationTime": MADE,
                "Description": "",
                "ResourceGroupId": "rg-lab",
            })
        });
    let mut answer = paged(parameters, tables.collect(), "RouterTableList", "RouterTableListType")?;
    // The one answer that says of itself that it is one.
    (answer["Code"], answer["Message"], answer["Success"]) = (json!("200"), json!("successful"), json!(true));
    Ok(answer)
}

fn type_of(entry: &Entry) -> &'static str {
    if entry.is_custom() { "Custom" } else { "System" }
}

fn older_shape(entry: &Entry) -> Value {
    json!({
        "RouteEntryId": entry.id,
        "RouteEntryName": "",
        "Description": "",
        "RouteTableId": entry.table,
        "DestinationCidrBlock": entry.destination.to_string(),
        "Type": type_of(entry),
        "Status": entry.status.name(),
        "InstanceId": entry.hop,
        "NextHopType": entry.kind,
        "NextHops": { "NextHop": [] },
    })
}

fn newer_shape(entry: &Entry) -> Value {
    json!({
        "RouteEntryId": entry.id,
        "RouteEntryName": "",
        "Description": "",
        "RouteTableId": entry.table,
        "DestinationCidrBlock": entry.destination.to_string(),
        "IpVersion": if entry.destination.addr().is_ipv4() { "ipv4" } else { "ipv6" },
        "Type": type_of(entry),
        "Status": entry.status.name(),
        "Origin": if entry.is_custom() { "CustomCreate" } else { "SystemCreate" },
        "GmtModified": MADE,
        "NextHops": { "NextHop": [{
            "NextHopId": entry.hop,
            "NextHopType": entry.kind,
            "NextHopRegionId": REGION,
            "Enabled": 1,
            "Weight": 0,
        }] },
    })
}

fn route_entry_list(vpc: &Vpc, parameters: &Parameters) -> Result<Value, Error> {
    let table = required(parameters, "RouteTableId")?;
    if !vpc.tables.iter().any(|known| known.id == table) {
        let text = "Specified route table does not exist.";
        return Err(Error::new(404, "InvalidRouteTableId.NotFound", text));
    }
    let illegal = |name: &str| {
        let text = format!("The param of {name} is illegal.");
        Error::new(400, &format!("IllegalParam.{name}"), &text)
    };
    let size = parameters.get("MaxResult").map_or(Ok(10), |value| value.parse());
    let size = size.ok().filter(|size| (1..=100).contains(size)).ok_or_else(|| illegal("MaxResult"))?;
    let begin = parameters.get("NextToken").filter(|token| !token.is_empty());
    let begin: Option<usize> = begin.map_or(Some(0), |token| token.strip_prefix(PAGE)?.parse().ok());
    let begin = begin.ok_or_else(|| illegal("NextToken"))?;
    let asked_for = |entry: &&Entry| {
        let family = if entry.destination.addr().is_ipv4() { "ipv4" } else { "ipv6" };
        entry.table == table
            && is_or_any(parameters, "RouteEntryType", type_of(entry))
            && is_or_any(parameters, "NextHopId", &entry.hop)
            && is_or_any(parameters, "NextHopType", &entry.kind)
            && is_or_any(parameters, "RouteEntryId", &entry.id)
            && is_or_any(parameters, "DestinationCidrBlock", &entry.destination.to_string())
            && is_or_any(parameters, "IpVersion", family)
    };
    let all: Vec<Value> = vpc.seen().iter().filter(asked_for).map(newer_shape).collect();
    let count = all.len();
    let part: Vec<Value> = all.into_iter().skip(begin).take(size).collect();
    let end = begin + part.len();
    let next = if end < count { format!("{PAGE}{end}") } else { String::new() };
    Ok(json!({ "NextToken": next, "TotalCount": count, "RouteEntrys": { "RouteEntry": part } }))
}

fn create_route_entry(vpc: &mut Vpc, parameters: &Parameters) -> Result<Value, Error> {
    let table = required(parameters, "RouteTableId")?.to_owned();
    let destination = required(parameters, "DestinationCidrBlock")?;
    let hop = required(parameters, "NextHopId")?.to_owned();
    let kind = parameters.get("NextHopType").map_or("Instance", String::as_str).to_owned();
    let text = "Specified CIDR block is not valid.";
    let destination: IpNet =
        destination.parse().map_err(|_| Error::new(400, "InvalidCidrBlock.Malformed", text))?;
    is_no_dry_run(parameters)?;
    let token = parameters.get("ClientToken").map(String::as_str);
    let id = vpc.create(Wish { table, destination: destination.trunc(), kind, hop }, token)?;
    Ok(json!({ "RouteEntryId": id }))
}

fn delete_route_entry(vpc: &mut Vpc, parameters: &Parameters) -> Result<Value, Error> {
    is_no_dry_run(parameters)?;
    if let Some(id) = parameters.get("RouteEntryId") {
        vpc.delete(|entry| entry.id == *id)?;
        return Ok(json!({}));
    }
    let table = required(parameters, "RouteTableId")?;
    let destination = required(parameters, "DestinationCidrBlock")?;
    vpc.delete(|entry| {
        entry.table == table
            && entry.destination.to_string() == destination
            && is_or_any(parameters, "NextHopId", &entry.hop)
    })?;
    Ok(json!({}))
}

fn is_no_dry_run(parameters: &Parameters) -> Result<(), Error> {
    let text = "Request validation has been passed with DryRun flag set.";
    let is_dry_run = parameters.get("DryRun").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if is_dry_run { Err(Error::new(400, "DryRunOperation", text)) } else { Ok(()) }
}
