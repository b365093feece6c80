//! Calls of the VPC API, and what its answers mean.

use flannel_backend::cloud::{self, CallError, Instance, Provider, Request, Response};
use flannel_backend::ipnet::IpNet;
use flannel_backend::serde_json::{Value, from_str};

/// The service and its version.
pub const SERVICE: &str = "vpc";
const VERSION: &str = "2016-04-28";
/// More pages than any list has.
const PAGES: usize = 20;

/// A call that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    action: &'static str,
    status: u16,
    code: String,
    message: String,
    request: String,
}

impl Refusal {
    fn is(&self, codes: &[&str]) -> bool {
        codes.contains(&self.code.as_str())
    }

    /// Something else is being changed, or too much at once: the same may go well in a moment.
    pub fn is_busy(&self) -> bool {
        const CODES: [&str; 5] = [
            "TaskConflict",
            "OperationConflict",
            "LastTokenProcessing",
            "SystemBusy",
            "OperationFailed.DistibuteLock",
        ];
        let is_status = self.code.starts_with("Incorrect") && self.code.contains("Status");
        self.is(&CODES)
            || is_status
            || self.code == "IncorrcetRouteEntryStatus"
            || self.code.starts_with("Throttling")
    }

    /// The destination has an entry already.
    pub fn is_duplicate(&self) -> bool {
        const CODES: [&str; 4] = [
            "InvalidCIDRBlock.Duplicate",
            "InvalidRouteEntry.Duplicate",
            "RouterEntryConflict.Duplicated",
            "Duplicated.VpcNextHop",
        ];
        self.is(&CODES)
    }

    /// The token has been used for something else.
    pub fn is_other_token(&self) -> bool {
        self.code.starts_with("IdempotentParameterMismatch")
    }

    /// The entry is gone.
    pub fn is_gone(&self) -> bool {
        self.is(&["InvalidRouteEntry.NotFound", "InvalidRouteEntryId.NotFound", "InvalidRouteEntry"])
    }

    /// The table has no room.
    pub fn is_quota(&self) -> bool {
        self.code.starts_with("QuotaExceeded")
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { action, status, code, message, request } = self;
        if *status == 403 || code.starts_with("Forbidden") || code.starts_with("NoPermission") {
            return write!(
                f,
                "{action}: Alibaba Cloud denies it ({code}: {message}); grant vpc:{action} to the RAM role or user whose keys \
                 these are: `flanneld plugin inspect` prints the minimal policy"
            );
        }
        write!(f, "{action}: Alibaba Cloud answers {status} {code}: {message} (request {request})")
    }
}

/// Why there is nothing to go on with.
pub type Error = CallError<Refusal>;

/// A route entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: String,
    pub destination: IpNet,
    /// It is in force. Otherwise it is being made, changed or removed.
    pub is_available: bool,
    /// Somebody has made it; otherwise it is the cloud's own.
    pub is_custom: bool,
    /// Type and identifier of the next hop, the only one it has.
    pub hop: Option<(String, String)>,
}

/// A route table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub id: String,
    pub is_system: bool,
    pub vswitches: Vec<String>,
}

fn call(me: &Instance, action: &'static str, parameters: &[(&str, &str)]) -> Result<Value, Error> {
    let request = Request::action(Provider::Alibaba, SERVICE, VERSION, action, &[("RegionId", &me.region)]);
    // Reading does no harm; creating has a token; and what is deleted by its identifier is never anything else.
    let request = request.query(parameters).idempotent();
    let answer = cloud::send(&request).map_err(|failure| Error::Failed(format!("{action}: {failure}")))?;
    read(action, &answer)
}

fn read(action: &'static str, answer: &Response) -> Result<Value, Error> {
    let body: Option<Value> = from_str(&answer.body).ok();
    let text = |name: &str| {
        let value = body.as_ref().and_then(|body| body[name].as_str()).unwrap_or("-");
        value.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(300).collect()
    };
    if answer.status != 200 {
        let (code, message, request) = (text("Code"), text("Message"), text("RequestId"));
        return Err(Error::Refused(Refusal { action, status: answer.status, code, message, request }));
    }
    body.filter(Value::is_object).ok_or_else(|| nonsense(action))
}

fn nonsense(action: &str) -> Error {
    Error::Failed(format!("{action}: the answer is not what Alibaba Cloud documents"))
}

/// All route tables of a network.
pub fn tables(me: &Instance, vpc: &str) -> Result<Vec<Table>, Error> {
    const ACTION: &str = "DescribeRouteTableList";
    let mut tables = Vec::new();
    for page in 1..=PAGES {
        let page = page.to_string();
        let answer = call(me, ACTION, &[("VpcId", vpc), ("PageSize", "50"), ("PageNumber", &page)])?;
        let all =
            answer["RouterTableList"]["RouterTableListType"].as_array().ok_or_else(|| nonsense(ACTION))?;
        let read = |table: &Value| {
            let vswitches = table["VSwitchIds"]["VSwitchId"].as_array().into_iter().flatten();
            Some(Table {
                id: table["RouteTableId"].as_str()?.to_owned(),
                is_system: table["RouteTableType"].as_str()? == "System",
                vswitches: vswitches.filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
            })
        };
        let part = all.iter().map(read).collect::<Option<Vec<_>>>().ok_or_else(|| nonsense(ACTION))?;
        let is_last = part.is_empty();
        tables.extend(part);
        if is_last || answer["TotalCount"].as_u64().is_none_or(|count| tables.len() as u64 >= count) {
            break;
        }
    }
    Ok(tables)
}

/// The entries of a table that fit.
pub fn entries(me: &Instance, table: &str, filters: &[(&str, &str)]) -> Result<Vec<Entry>, Error> {
    const ACTION: &str = "DescribeRouteEntryList";
    let (mut entries, mut token) = (Vec::new(), String::new());
    for _ in 0..PAGES {
        let mut parameters = vec![("RouteTableId", table), ("MaxResult", "100")];
        parameters.extend(filters);
        if !token.is_empty() {
            parameters.push(("NextToken", &token));
        }
        let answer = call(me, ACTION, &parameters)?;
        let all = answer["RouteEntrys"]["RouteEntry"].as_array().ok_or_else(|| nonsense(ACTION))?;
        // Entries for prefix lists have no address as their destination, and are none of ours.
        entries.extend(all.iter().filter_map(entry));
        answer["NextToken"].as_str().unwrap_or_default().clone_into(&mut token);
        if token.is_empty() {
            break;
        }
    }
    Ok(entries)
}

fn entry(value: &Value) -> Option<Entry> {
    let hops = value["NextHops"]["NextHop"].as_array().map_or(&[][..], Vec::as_slice);
    let hop = match hops {
        [hop] => Some((hop["NextHopType"].as_str()?.to_owned(), hop["NextHopId"].as_str()?.to_owned())),
        _ => None,
    };
    Some(Entry {
        id: value["RouteEntryId"].as_str()?.to_owned(),
        destination: value["DestinationCidrBlock"].as_str()?.parse().ok()?,
        // The documentation has both words.
        is_available: matches!(value["Status"].as_str()?, "Available" | "Created"),
        is_custom: value["Type"].as_str()? == "Custom",
        hop,
    })
}

/// Makes an entry to this instance.
pub fn create(me: &Instance, table: &str, destination: IpNet, token: &str) -> Result<(), Error> {
    let destination = destination.to_string();
    let parameters = [
        ("RouteTableId", table),
        ("DestinationCidrBlock", &destination),
        ("NextHopType", "Instance"),
        ("NextHopId", &me.id),
        ("ClientToken", token),
    ];
    call(me, "CreateRouteEntry", &parameters).map(drop)
}

/// Removes an entry.
pub fn delete(me: &Instance, entry: &str) -> Result<(), Error> {
    call(me, "DeleteRouteEntry", &[("RouteEntryId", entry)]).map(drop)
}
