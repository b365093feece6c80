//! Calls of the VPC API, and what its answers mean.

use flannel_backend::cloud::{self, CallError, Provider, Request, Response};
use flannel_backend::ipnet::Ipv4Net;
use flannel_backend::serde_json::{Value, from_str};

/// The service and its version.
pub const SERVICE: &str = "vpc";
const VERSION: &str = "2017-03-12";
/// Tables in an answer, and more answers than any list has.
const PAGE: usize = 20;
const PAGES: usize = 20;
/// The kind of next hop that an instance is, by its private address.
pub const INSTANCE: &str = "NORMAL_CVM";

/// A call that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    action: &'static str,
    code: String,
    message: String,
    request: String,
}

impl Refusal {
    fn is(&self, families: &[&str]) -> bool {
        families.iter().any(|family| self.code.starts_with(family))
    }

    /// Something else is being changed, or too much at once: the same may go well in a moment.
    pub fn is_busy(&self) -> bool {
        self.is(&["ResourceInUse", "ResourceUnavailable", "RequestLimitExceeded"])
    }

    /// The destination has a route already.
    pub fn is_duplicate(&self) -> bool {
        self.is(&["InvalidParameterValue.Duplicate"])
    }

    /// The route is gone.
    pub fn is_gone(&self) -> bool {
        self.is(&["ResourceNotFound"])
    }

    /// The table has no room.
    pub fn is_quota(&self) -> bool {
        self.is(&["LimitExceeded"])
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { action, code, message, request } = self;
        if self.is(&["UnauthorizedOperation", "AuthFailure.UnauthorizedOperation"]) {
            return write!(
                f,
                "{action}: Tencent Cloud denies it ({code}: {message}); grant vpc:{action} to the CAM role or user whose keys these \
                 are: `flanneld plugin inspect` prints the minimal policy"
            );
        }
        if self.is(&["AuthFailure.SignatureExpire"]) {
            return write!(
                f,
                "{action}: Tencent Cloud takes requests for too old ({code}: {message}): is the clock of this node right?"
            );
        }
        if self.is(&["AuthFailure"]) {
            return write!(
                f,
                "{action}: Tencent Cloud does not take the credentials ({code}: {message}); right would be a SecretId and its SecretKey as \
                 AccessKeyID and AccessKeySecret of the network config, or where else flanneld looks for them (docs/clouds.md)"
            );
        }
        write!(f, "{action}: Tencent Cloud answers {code}: {message} (request {request})")
    }
}

/// Why there is nothing to go on with.
pub type Error = CallError<Refusal>;

/// A route of IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its number in the table.
    pub id: u64,
    pub destination: Ipv4Net,
    /// `NORMAL_CVM`, `NAT`, …
    pub kind: String,
    /// The next hop: for an instance one of its private addresses.
    pub hop: String,
    /// Somebody has made it; otherwise it is the cloud's own.
    pub is_custom: bool,
    pub is_enabled: bool,
}

/// A route table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub id: String,
    /// The VPC's, for subnets without one of their own.
    pub is_main: bool,
    pub subnets: Vec<String>,
    pub routes: Vec<Route>,
}

/// Sends a request. Each may be repeated: reading does no harm, the cloud makes no route twice, and what is removed by its number is never
/// anything else.
fn call(action: &'static str, parameters: &[(&str, &str)]) -> Result<Value, Error> {
    let request = Request::action(Provider::Tencent, SERVICE, VERSION, action, parameters).idempotent();
    let answer = cloud::send(&request).map_err(|failure| Error::Failed(format!("{action}: {failure}")))?;
    read(action, &answer)
}

fn read(action: &'static str, answer: &Response) -> Result<Value, Error> {
    let body: Value = from_str(&answer.body).unwrap_or_default();
    let response = &body["Response"];
    let text = |value: &Value| -> String {
        let text = value.as_str().unwrap_or("-").chars();
        text.map(|letter| if letter.is_control() { ' ' } else { letter }).take(300).collect()
    };
    let error = &response["Error"];
    if !error.is_null() {
        let (code, message) = (text(&error["Code"]), text(&error["Message"]));
        return Err(Error::Refused(Refusal { action, code, message, request: text(&response["RequestId"]) }));
    }
    if answer.status != 200 {
        return Err(Error::Failed(format!("{action}: Tencent Cloud answers {}", answer.status)));
    }
    if response.is_object() { Ok(response.clone()) } else { Err(nonsense(action)) }
}

fn nonsense(action: &str) -> Error {
    Error::Failed(format!("{action}: the answer is not what Tencent Cloud documents"))
}

/// All route tables of a network, with their routes.
pub fn tables(vpc: &str) -> Result<Vec<Table>, Error> {
    const ACTION: &str = "DescribeRouteTables";
    // Both are texts there.
    let limit = format!("\"{PAGE}\"");
    let mut tables = Vec::new();
    for page in 0..PAGES {
        let offset = format!("\"{}\"", page * PAGE);
        let asked = [
            ("Filters.0.Name", "vpc-id"),
            ("Filters.0.Values.0", vpc),
            ("Limit", &limit),
            ("Offset", &offset),
        ];
        let answer = call(ACTION, &asked)?;
        let all = answer["RouteTableSet"].as_array().ok_or_else(|| nonsense(ACTION))?;
        let part = all.iter().map(table).collect::<Option<Vec<_>>>().ok_or_else(|| nonsense(ACTION))?;
        let is_last = part.len() < PAGE;
        tables.extend(part);
        if is_last {
            break;
        }
    }
    Ok(tables)
}

fn table(value: &Value) -> Option<Table> {
    let subnets = value["AssociationSet"].as_array().into_iter().flatten();
    let subnets = subnets.filter_map(|one| one["SubnetId"].as_str()).map(ToOwned::to_owned);
    Some(Table {
        id: value["RouteTableId"].as_str()?.to_owned(),
        is_main: value["Main"].as_bool()?,
        subnets: subnets.collect(),
        // Those of IPv6 are none of ours.
        routes: value["RouteSet"].as_array()?.iter().filter_map(route).collect(),
    })
}

fn route(value: &Value) -> Option<Route> {
    Some(Route {
        id: value["RouteId"].as_u64()?,
        destination: value["DestinationCidrBlock"].as_str()?.parse().ok()?,
        kind: value["GatewayType"].as_str()?.to_owned(),
        hop: value["GatewayId"].as_str()?.to_owned(),
        is_custom: value["RouteType"].as_str()? == "USER",
        is_enabled: value["Enabled"].as_bool()?,
    })
}

/// Makes a route to an instance.
pub fn create(table: &str, destination: Ipv4Net, hop: &str) -> Result<(), Error> {
    let destination = destination.to_string();
    let parameters = [
        ("RouteTableId", table),
        ("Routes.0.DestinationCidrBlock", &destination),
        ("Routes.0.GatewayType", INSTANCE),
        ("Routes.0.GatewayId", hop),
    ];
    call("CreateRoutes", &parameters).map(drop)
}

/// Removes a route.
pub fn delete(table: &str, route: u64) -> Result<(), Error> {
    let route = route.to_string();
    call("DeleteRoutes", &[("RouteTableId", table), ("Routes.0.RouteId", &route)]).map(drop)
}
