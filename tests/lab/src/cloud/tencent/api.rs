//! The API's actions: JSON in, JSON out, in the shapes that the vendor documents.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use ipnet::Ipv4Net;
use serde_json::{Map, Value, json};

use super::state::{Call, Error, Fault, MAIN_TABLE, Row, SUBNET, State, VPC, VPC_CIDR, error};
use super::{ACCESS_KEY, INSTANCE, REGION, lock, signature};
use crate::Place;
use crate::cloud::server::{Question, Reply};

const VERSION: &str = "2017-03-12";
const MADE: &str = "2026-01-01 00:00:00";
/// The kinds of next hop.
const KINDS: [&str; 10] = [
    "CVM",
    "VPN",
    "DIRECTCONNECT",
    "PEERCONNECTION",
    "HAVIP",
    "NAT",
    "NORMAL_CVM",
    "EIP",
    "LOCAL_GATEWAY",
    "CCN",
];

type Parameters = Map<String, Value>;

pub(super) fn answer(state: &Mutex<State>, question: &Question) -> Reply {
    let mut state = lock(state);
    let action = question.header("x-tc-action").unwrap_or_default().to_owned();
    let body: Value = serde_json::from_slice(&question.body).unwrap_or_default();
    let fault = state.faults.get_mut(&action).and_then(VecDeque::pop_front);
    let outcome = match fault {
        Some(Fault::Refuse(code)) => Err(error(code, format!("made up: {code}"))),
        _ => carry_out(&mut state, question, &action, &body),
    };
    state.route();
    let code = outcome.as_ref().map_or_else(|(code, _)| code.clone(), |_| "OK".to_owned());
    state.calls.push(Call { from: question.from, action, body, outcome: code });
    let mut response =
        outcome.unwrap_or_else(|(code, message)| json!({ "Error": { "Code": code, "Message": message } }));
    response["RequestId"] = json!(format!("made-up-request-{}", state.calls.len()));
    let body = json!({ "Response": response }).to_string();
    match fault {
        Some(Fault::Half) => Reply::Half(body.into_bytes(), 10),
        Some(Fault::Silence(time)) => Reply::Silence(time),
        // Errors, too.
        Some(Fault::Refuse(_)) | None => Reply::new(200, "application/json", body),
    }
}

fn carry_out(state: &mut State, question: &Question, action: &str, body: &Value) -> Result<Value, Error> {
    let caller = signature::check(question, state)?;
    if question.method != "POST" || question.path() != "/" || !question.query().is_empty() {
        return Err(error("UnsupportedProtocol", "right would be a POST to / without a query"));
    }
    if question.header("x-tc-version") != Some(VERSION) {
        return Err(error("NoSuchVersion", "The API version does not exist."));
    }
    if question.header("x-tc-region") != Some(REGION) {
        return Err(error("UnsupportedRegion", "The API does not support the region."));
    }
    let Value::Object(parameters) = body else {
        return Err(error("InvalidRequest", "The multipart format of the request body is incorrect."));
    };
    if caller != ACCESS_KEY.0 && state.denied.contains(action) {
        let text = format!(
            "you are not authorized to perform operation (vpc:{action})\nresource (*) has no permission"
        );
        return Err(error("UnauthorizedOperation", text));
    }
    match action {
        "DescribeRouteTables" => describe(state, parameters),
        "CreateRoutes" => create(state, parameters),
        "DeleteRoutes" => delete(state, parameters),
        _ => Err(error("InvalidAction", "The API is invalid.")),
    }
}

/// Whether there are no other names than these.
fn known(place: &str, parameters: &Parameters, names: &[&str]) -> Result<(), Error> {
    match parameters.keys().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            Err(error("UnknownParameter", format!("The parameter `{place}{name}` is not recognized.")))
        }
    }
}

fn wrong_type(name: &str) -> Error {
    error("InvalidParameter", format!("The value type of parameter `{name}` is not valid."))
}

fn text<'a>(parameters: &'a Parameters, name: &str) -> Result<Option<&'a str>, Error> {
    match parameters.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong_type(name)),
    }
}

fn required<'a>(parameters: &'a Parameters, name: &str) -> Result<&'a str, Error> {
    let missing =
        || error("MissingParameter", format!("The request is missing the required parameter `{name}`."));
    text(parameters, name)?.ok_or_else(missing)
}

fn list<'a>(parameters: &'a Parameters, name: &str) -> Result<Vec<&'a Parameters>, Error> {
    let Some(value) = parameters.get(name) else { return Ok(Vec::new()) };
    let all = value.as_array().ok_or_else(|| wrong_type(name))?;
    all.iter().map(|one| one.as_object().ok_or_else(|| wrong_type(name))).collect()
}

fn describe(state: &State, parameters: &Parameters) -> Result<Value, Error> {
    known("", parameters, &["Filters", "RouteTableIds", "Offset", "Limit", "NeedRouterInfo"])?;
    let number = |name: &str, usual: usize| -> Result<usize, Error> {
        let invalid =
            || error("InvalidParameterValue", format!("The value of parameter `{name}` is not valid."));
        text(parameters, name)?.map_or(Ok(usual), |text| text.parse().map_err(|_| invalid()))
    };
    let (offset, limit) = (number("Offset", 0)?, number("Limit", 20)?);
    if !(1..=100).contains(&limit) {
        return Err(error("InvalidParameterValue.Range", "Limit is from 1 to 100."));
    }
    let mut tables = state.tables();
    for filter in list(parameters, "Filters")? {
        known("Filters.", filter, &["Name", "Values"])?;
        let values: Vec<&str> = filter
            .get("Values")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        match required(filter, "Name")? {
            "vpc-id" => tables.retain(|_| values.contains(&VPC)),
            "route-table-id" => tables.retain(|table| values.contains(table)),
            other => {
                return Err(error(
                    "InvalidParameterValue",
                    format!("The filter `{other}` is not supported."),
                ));
            }
        }
    }
    let count = tables.len();
    let shown: Vec<Value> =
        tables.into_iter().skip(offset).take(limit).map(|table| shown(state, table)).collect();
    Ok(json!({ "TotalCount": count, "RouteTableSet": shown }))
}

fn shown(state: &State, table: &str) -> Value {
    let is_used = table == state.table_in_use();
    let associations = is_used.then(|| json!({ "SubnetId": SUBNET, "RouteTableId": table }));
    let routes: Vec<Value> = state.rows.iter().filter(|row| row.table == table).map(shown_route).collect();
    json!({
        "VpcId": VPC,
        "RouteTableId": table,
        "RouteTableName": "lab",
        "AssociationSet": associations.into_iter().collect::<Vec<_>>(),
        "RouteSet": routes,
        "Main": table == MAIN_TABLE,
        "CreatedTime": MADE,
        "TagSet": [],
        "LocalCidrForCcn": [],
    })
}

fn shown_route(row: &Row) -> Value {
    json!({
        "DestinationCidrBlock": row.destination.to_string(),
        "GatewayType": row.kind,
        "GatewayId": row.hop,
        "RouteId": row.id,
        "RouteItemId": format!("rti-lab{}", row.id),
        "RouteDescription": "",
        "Enabled": row.enabled,
        "RouteType": if row.is_custom() { "USER" } else { "NETD" },
        "RouteTableId": row.table,
        "DestinationIpv6CidrBlock": "",
        "PublishedToVbc": false,
        "CreatedTime": MADE,
    })
}

fn table(state: &State, parameters: &Parameters) -> Result<&'static str, Error> {
    let wanted = required(parameters, "RouteTableId")?;
    let missing = || error("ResourceNotFound", format!("The route table {wanted} does not exist."));
    state.tables().into_iter().find(|table| *table == wanted).ok_or_else(missing)
}

fn create(state: &mut State, parameters: &Parameters) -> Result<Value, Error> {
    known("", parameters, &["RouteTableId", "Routes"])?;
    let table = table(state, parameters)?;
    let routes = list(parameters, "Routes")?;
    if routes.is_empty() {
        required(parameters, "Routes")?;
    }
    let wanted: Vec<(Ipv4Net, &str, &str)> =
        routes.iter().map(|route| wish(state, table, route)).collect::<Result<_, _>>()?;
    let custom = state.rows.iter().filter(|row| row.table == table && row.is_custom()).count();
    if custom + wanted.len() > state.quota {
        return Err(error("LimitExceeded", "The number of routes of the route table has reached the limit."));
    }
    let count = wanted.len();
    let wanted: Vec<(Ipv4Net, String, String)> = wanted
        .into_iter()
        .map(|(destination, kind, hop)| (destination, kind.to_owned(), hop.to_owned()))
        .collect();
    for (destination, kind, hop) in wanted {
        state.add(table, destination, &kind, &hop);
    }
    Ok(json!({ "TotalCount": count, "RouteTableSet": [shown(state, table)] }))
}

/// A route as it is wished for: destination, kind and identifier of the next hop.
fn wish<'a>(state: &State, table: &str, route: &'a Parameters) -> Result<(Ipv4Net, &'a str, &'a str), Error> {
    known(
        "Routes.",
        route,
        &["DestinationCidrBlock", "GatewayType", "GatewayId", "RouteDescription", "Enabled"],
    )?;
    if route.get("Enabled").is_some_and(|enabled| !enabled.is_boolean()) {
        return Err(wrong_type("Routes.Enabled"));
    }
    let destination = required(route, "DestinationCidrBlock")?;
    let malformed =
        || error("InvalidParameterValue.Malformed", format!("The value `{destination}` is no CIDR block."));
    let destination: Ipv4Net = destination.parse().map_err(|_| malformed())?;
    if destination.trunc() != destination {
        return Err(malformed());
    }
    let vpc: Ipv4Net = VPC_CIDR.parse().map_err(|_| malformed())?;
    if vpc.contains(&destination) {
        let text = "The destination is in the CIDR block of the VPC.";
        return Err(error("InvalidParameterValue.VpcCidrConflict", text));
    }
    if state.rows.iter().any(|row| row.table == table && row.destination == destination) {
        return Err(error("InvalidParameterValue.Duplicate", "The route exists already."));
    }
    let (kind, hop) = (required(route, "GatewayType")?, required(route, "GatewayId")?);
    if !KINDS.contains(&kind) {
        return Err(error(
            "InvalidParameterValue",
            format!("The value `{kind}` of GatewayType is not valid."),
        ));
    }
    let is_machine = |address: Ipv4Addr| {
        let [first, second, ..] = address.octets();
        (first, second) == (192, 168) && address != Place::Near.gateway()
    };
    if kind == INSTANCE && !hop.parse().is_ok_and(is_machine) {
        return Err(error("ResourceNotFound", format!("There is no instance with the address {hop}.")));
    }
    Ok((destination, kind, hop))
}

fn delete(state: &mut State, parameters: &Parameters) -> Result<Value, Error> {
    known("", parameters, &["RouteTableId", "Routes"])?;
    let table = table(state, parameters)?;
    let mut gone = Vec::new();
    for route in list(parameters, "Routes")? {
        let id = route.get("RouteId").ok_or_else(|| error("MissingParameter", "Routes.RouteId"))?;
        let id = id.as_u64().ok_or_else(|| wrong_type("Routes.RouteId"))?;
        let row = state.rows.iter().find(|row| row.table == table && row.id == id);
        let row = row.ok_or_else(|| error("ResourceNotFound", format!("There is no route {id}.")))?;
        if !row.is_custom() {
            return Err(error("UnsupportedOperation.SystemRoute", "The route is the system's."));
        }
        gone.push(row.clone());
    }
    state.rows.retain(|row| !gone.contains(row));
    Ok(json!({ "RouteSet": gone.iter().map(shown_route).collect::<Vec<_>>() }))
}
