//! Calls of the EC2 API, and what its answers say. Names and shapes are those of the EC2 API Reference, version 2016-11-15.

use flannel_backend::cloud::{self, CallError, Provider, Request, Response};
use flannel_backend::ipnet::IpNet;
use roxmltree::{Document, Node};

use crate::refusal::Refusal;

/// The service and its version.
pub const SERVICE: &str = "ec2";
const VERSION: &str = "2016-11-15";
/// A tick has 64 requests, and one more would spoil all of it. What the last ones would be for is left to the next tick.
const REQUESTS: u32 = 60;
/// More pages than the answers ever have.
const PAGES: usize = 20;

/// Why there is nothing to go on with.
pub type Error = CallError<Refusal>;

/// A route table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// `rtb-…`
    pub id: String,
    /// Its routes to addresses; those to prefix lists are nobody's here.
    pub rows: Vec<Row>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub destination: IpNet,
    pub state: State,
    /// Somebody has made it by CreateRoute. Others come with the VPC or from its gateways.
    pub is_custom: bool,
    /// They come from a virtual private gateway, and do not count in the quota.
    pub is_propagated: bool,
    /// The next hop's network interface, `eni-…`, and instance, `i-…`; empty where there is none.
    pub interface: String,
    pub instance: String,
}

/// Whether packets take a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Active,
    /// The next hop is gone, or does not run.
    Blackhole,
    /// A word that is not documented.
    Other,
}

/// EC2, for one tick.
#[derive(Default)]
pub struct Ec2 {
    asked: u32,
}

impl Ec2 {
    /// Whether there are requests left to change something with.
    pub fn has_more(&self) -> bool {
        self.asked < REQUESTS
    }

    /// All tables that fit.
    pub fn tables(&mut self, which: &[(String, String)]) -> Result<Vec<Table>, Error> {
        let (mut tables, mut next) = (Vec::new(), String::new());
        for _ in 0..PAGES {
            let mut parameters: Vec<(&str, &str)> =
                which.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            if !next.is_empty() {
                parameters.push(("NextToken", &next));
            }
            let request = request("DescribeRouteTables", &parameters).idempotent();
            let (page, token) = self.call("DescribeRouteTables", &request, |answer| {
                let page = items(answer, "routeTableSet")?.map(table).collect::<Result<Vec<_>, _>>()?;
                Ok((page, text(answer, "nextToken").to_owned()))
            })?;
            tables.extend(page);
            if token.is_empty() {
                return Ok(tables);
            }
            next = token;
        }
        Err(Error::Failed(format!("DescribeRouteTables: there is no end of it after {PAGES} pages")))
    }

    /// Whether EC2 drops packets to or from others than the interface itself.
    pub fn is_checked(&mut self, interface: &str) -> Result<bool, Error> {
        const ACTION: &str = "DescribeNetworkInterfaces";
        let request = request(ACTION, &[("NetworkInterfaceId.1", interface)]).idempotent();
        self.call(ACTION, &request, |answer| {
            let mut all = items(answer, "networkInterfaceSet")?;
            let found = all.find(|item| text(*item, "networkInterfaceId") == interface);
            let found = found.ok_or_else(|| format!("it lacks {interface}"))?;
            match needed(found, "sourceDestCheck")? {
                "true" => Ok(true),
                "false" => Ok(false),
                other => Err(format!("sourceDestCheck: {other:?}")),
            }
        })
    }

    /// Turns that off.
    pub fn uncheck(&mut self, interface: &str) -> Result<(), Error> {
        let parameters = [("NetworkInterfaceId", interface), ("SourceDestCheck.Value", "false")];
        self.change("ModifyNetworkInterfaceAttribute", true, &parameters)
    }

    /// Makes a row. Made twice, it is there already.
    pub fn create(&mut self, table: &str, destination: IpNet, interface: &str) -> Result<(), Error> {
        let destination = (field(destination), &*destination.to_string());
        let parameters = [("RouteTableId", table), destination, ("NetworkInterfaceId", interface)];
        self.change("CreateRoute", true, &parameters)
    }

    /// Gives a row another next hop, in one step: no packet is lost.
    pub fn replace(&mut self, table: &str, destination: IpNet, interface: &str) -> Result<(), Error> {
        let destination = (field(destination), &*destination.to_string());
        let parameters = [("RouteTableId", table), destination, ("NetworkInterfaceId", interface)];
        self.change("ReplaceRoute", true, &parameters)
    }

    /// Removes a row. Not repeated: by then it may be the row that somebody else has made there.
    pub fn delete(&mut self, table: &str, destination: IpNet) -> Result<(), Error> {
        let destination = (field(destination), &*destination.to_string());
        self.change("DeleteRoute", false, &[("RouteTableId", table), destination])
    }

    fn change(
        &mut self,
        action: &'static str,
        idempotent: bool,
        parameters: &[(&str, &str)],
    ) -> Result<(), Error> {
        let request = Request { idempotent, ..request(action, parameters) };
        // Some answers have `return`, and some have nothing to say.
        self.call(action, &request, |answer| match text(answer, "return") {
            "" | "true" => Ok(()),
            other => Err(format!("return: {other:?}")),
        })
    }

    fn call<T>(
        &mut self,
        action: &'static str,
        request: &Request,
        read: impl FnOnce(Node<'_, '_>) -> Result<T, String>,
    ) -> Result<T, Error> {
        self.asked += 1;
        let answer = cloud::send(request).map_err(|failure| Error::Failed(format!("{action}: {failure}")))?;
        let Response { status, body, .. } = &answer;
        let odd = |reason: String| {
            let reason =
                format!("{action}: the answer, of status {status}, is not what EC2 documents: {reason}");
            Error::Failed(reason.replace(char::is_control, " "))
        };
        let document = Document::parse(body).map_err(|error| odd(error.to_string()))?;
        let answer = document.root_element();
        if *status != 200 {
            return Err(refusal(action, answer).map_or_else(odd, Error::Refused));
        }
        let name = answer.tag_name().name();
        if name.strip_suffix("Response") != Some(action) {
            return Err(odd(format!("it is {name:?}")));
        }
        read(answer).map_err(odd)
    }
}

fn request(action: &str, parameters: &[(&str, &str)]) -> Request {
    Request::action(Provider::Aws, SERVICE, VERSION, action, parameters)
}

/// The parameter that a destination goes into.
fn field(destination: IpNet) -> &'static str {
    match destination {
        IpNet::V4(_) => "DestinationCidrBlock",
        IpNet::V6(_) => "DestinationIpv6CidrBlock",
    }
}

fn refusal(action: &'static str, answer: Node) -> Result<Refusal, String> {
    let errors = child(answer, "Errors").and_then(|errors| child(errors, "Error"));
    let error = errors.ok_or_else(|| format!("it is {:?}, without an error", answer.tag_name().name()))?;
    Ok(Refusal::new(action, needed(error, "Code")?, text(error, "Message")))
}

fn table(item: Node) -> Result<Table, String> {
    let id = needed(item, "routeTableId")?.to_owned();
    let rows = items(item, "routeSet")?.map(row).filter_map(Result::transpose).collect::<Result<_, _>>()?;
    Ok(Table { id, rows })
}

/// A route; none: it is for a prefix list.
fn row(item: Node) -> Result<Option<Row>, String> {
    let destination = match (text(item, "destinationCidrBlock"), text(item, "destinationIpv6CidrBlock")) {
        ("", "") => return Ok(None),
        ("", v6) => v6,
        (v4, _) => v4,
    };
    let state = match needed(item, "state")? {
        "active" => State::Active,
        "blackhole" => State::Blackhole,
        _ => State::Other,
    };
    let origin = needed(item, "origin")?;
    Ok(Some(Row {
        destination: destination.parse().map_err(|_| format!("{destination:?} is no destination"))?,
        state,
        is_custom: origin == "CreateRoute",
        is_propagated: origin == "EnableVgwRoutePropagation",
        interface: text(item, "networkInterfaceId").to_owned(),
        instance: text(item, "instanceId").to_owned(),
    }))
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.is_element() && child.tag_name().name() == name)
}

/// The text of a child; empty where there is none.
fn text<'a>(node: Node<'a, '_>, name: &str) -> &'a str {
    child(node, name).and_then(|child| child.text()).unwrap_or_default().trim()
}

fn needed<'a>(node: Node<'a, '_>, name: &str) -> Result<&'a str, String> {
    Some(text(node, name)).filter(|text| !text.is_empty()).ok_or_else(|| format!("{name} is missing"))
}

/// The members of a list.
fn items<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Result<impl Iterator<Item = Node<'a, 'i>>, String> {
    let set = child(node, name).ok_or_else(|| format!("{name} is missing"))?;
    Ok(set.children().filter(|child| child.is_element() && child.tag_name().name() == "item"))
}
