//! A little EC2: route tables, one network interface, and the shapes of its answers.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

use flannel_backend::cloud::{Error as CloudError, Instance, NetworkInterface, Operation, Request, Response};
use flannel_backend::log::Level;
use flannel_backend::testing::{Bench, Host, samples, with};

use crate::AwsVpcPolicy;

/// This node's interface and its subnets, and another node's interface.
pub const ENI: &str = "eni-0a";
pub const OWN: &str = "10.5.72.0/24";
pub const OWN_V6: &str = "fc00:5:0:72::/64";
pub const OTHER: &str = "eni-0b";
/// The subnet's own table.
pub const TABLE: &str = "rtb-1";

/// How a row comes to be.
pub const CUSTOM: &str = "CreateRoute";
pub const PROPAGATED: &str = "EnableVgwRoutePropagation";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub destination: String,
    /// Element and text of the next hop.
    pub hop: (&'static str, String),
    pub state: &'static str,
    pub origin: &'static str,
}

#[derive(Clone)]
pub enum Fault {
    /// Status, code and message.
    Refused(u16, &'static str, &'static str),
    /// Carried out, and nobody hears of it.
    Lost,
    /// An answer of that status with that body; not carried out.
    Odd(u16, &'static str),
}

#[derive(Clone, Default)]
pub struct Table {
    pub rows: Vec<Row>,
    pub subnet: Option<&'static str>,
    pub is_main: bool,
}

/// What EC2 has, and what it was asked.
pub struct Ec2 {
    pub tables: BTreeMap<String, Table>,
    /// Tables as reads see them, if these are old.
    pub seen: Option<BTreeMap<String, Table>>,
    pub is_checked: bool,
    pub quota: usize,
    /// Calls that change something, with what matters of them.
    pub changes: Vec<String>,
    pub reads: Vec<String>,
    /// What the next calls of an action meet.
    pub faults: BTreeMap<&'static str, VecDeque<Fault>>,
}

pub type Shared = Rc<RefCell<Ec2>>;

/// A row to a network interface.
pub fn row(destination: &str, interface: &str) -> Row {
    let hop = ("networkInterfaceId", interface.to_owned());
    Row { destination: destination.to_owned(), hop, state: "active", origin: CUSTOM }
}

pub fn blackhole(destination: &str, interface: &str) -> Row {
    Row { state: "blackhole", ..row(destination, interface) }
}

pub fn gateway(destination: &str, gateway: &str, origin: &'static str) -> Row {
    Row { hop: ("gatewayId", gateway.to_owned()), origin, ..row(destination, "") }
}

impl Ec2 {
    /// With the subnet's own table, which has these rows beside the VPC's own.
    pub fn with(rows: &[Row]) -> Shared {
        let local = gateway("192.168.0.0/16", "local", "CreateRouteTable");
        let internet = gateway("0.0.0.0/0", "igw-1", CUSTOM);
        let rows = [local, internet].into_iter().chain(rows.iter().cloned()).collect();
        let table = Table { rows, subnet: Some("subnet-1"), is_main: false };
        Rc::new(RefCell::new(Self {
            tables: BTreeMap::from([(TABLE.to_owned(), table)]),
            seen: None,
            is_checked: false,
            quota: 50,
            changes: Vec::new(),
            reads: Vec::new(),
            faults: BTreeMap::new(),
        }))
    }

    pub fn fail(&mut self, action: &'static str, fault: Fault) {
        self.faults.entry(action).or_default().push_back(fault);
    }

    /// Destinations and next hops of a table, without the VPC's own two rows.
    pub fn rows(&self, table: &str) -> Vec<(&str, &str)> {
        let rows = self.tables[table].rows.iter().skip(2);
        rows.map(|row| (row.destination.as_str(), row.hop.1.as_str())).collect()
    }

    fn answer(&mut self, request: &Request) -> Result<Response, CloudError> {
        let Operation::Action { name, parameters } = &request.operation else { panic!("{request:?}") };
        assert_eq!((request.service.as_str(), request.version.as_str()), ("ec2", "2016-11-15"));
        assert_eq!(request.idempotent, name != "DeleteRoute");
        let mut given = BTreeMap::new();
        for (name, value) in parameters {
            assert!(given.insert(name.as_str(), value.as_str()).is_none(), "{name} comes twice");
        }
        let said: Vec<String> = given.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let calls = if name.starts_with("Describe") { &mut self.reads } else { &mut self.changes };
        calls.push(format!("{name} {}", said.join(" ")));
        let fault = self.faults.get_mut(name.as_str()).and_then(VecDeque::pop_front);
        match fault {
            Some(Fault::Refused(status, code, message)) => return Ok(refused(status, code, message)),
            Some(Fault::Odd(status, body)) => return Ok(answer(status, body.to_owned())),
            Some(Fault::Lost) | None => {}
        }
        let outcome = match name.as_str() {
            "DescribeNetworkInterfaces" => Ok(self.interfaces(&given)),
            "DescribeRouteTables" => self.describe(&given),
            _ => self.change(name, &given).map(|()| "<return>true</return>".to_owned()),
        };
        if fault.is_some() {
            return Err(CloudError::Unreachable("the answer breaks off".to_owned()));
        }
        Ok(outcome.map_or_else(
            |code| refused(400, code, "as the reference says"),
            |inner| {
                let space = "http://ec2.amazonaws.com/doc/2016-11-15/";
                let body = format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{name}Response xmlns=\"{space}\">\n    <requestId>59dbff89</requestId>\n    {inner}\n</{name}Response>"
                );
                answer(200, body)
            },
        ))
    }

    fn interfaces(&self, given: &BTreeMap<&str, &str>) -> String {
        assert_eq!(given["NetworkInterfaceId.1"], ENI);
        let checked = self.is_checked;
        format!(
            "<networkInterfaceSet><item><networkInterfaceId>{ENI}</networkInterfaceId><subnetId>subnet-1</subnetId>\
             <sourceDestCheck>{checked}</sourceDestCheck></item></networkInterfaceSet>"
        )
    }

    /// One table a page.
    fn describe(&self, given: &BTreeMap<&str, &str>) -> Result<String, &'static str> {
        let values = |suffix: &str| -> Vec<&str> {
            given.iter().filter(|(name, _)| name.ends_with(suffix)).map(|(_, value)| *value).collect()
        };
        let tables = self.seen.as_ref().unwrap_or(&self.tables);
        let ids: Vec<&str> =
            given.iter().filter(|(name, _)| name.starts_with("RouteTableId.")).map(|(_, id)| *id).collect();
        if ids.iter().any(|id| !tables.contains_key(*id)) {
            return Err("InvalidRouteTableID.NotFound");
        }
        let (filters, wanted) = (values(".Name"), values(".Value.1"));
        let fits = |id: &str, table: &Table| match filters.as_slice() {
            [] => ids.contains(&id),
            ["association.subnet-id"] => table.subnet == Some(wanted[0]),
            ["association.main", "vpc-id"] => table.is_main && wanted == ["true", "vpc-1"],
            other => panic!("{other:?}"),
        };
        let found: Vec<_> = tables.iter().filter(|(id, table)| fits(id, table)).collect();
        let at: usize = given.get("NextToken").map_or(0, |token| token.parse().expect("a token"));
        let mut body = String::from("<routeTableSet>");
        if let Some((id, table)) = found.get(at) {
            write!(body, "<item><routeTableId>{id}</routeTableId><vpcId>vpc-1</vpcId><routeSet>")
                .expect("written");
            // A prefix list, as of a gateway endpoint.
            body.push_str("<item><destinationPrefixListId>pl-1</destinationPrefixListId><gatewayId>vpce-1</gatewayId><state>active</state><origin>CreateRoute</origin></item>");
            for Row { destination, hop: (kind, hop), state, origin } in &table.rows {
                let v6 = if destination.contains(':') { "Ipv6" } else { "" };
                write!(body, "\n<item><destination{v6}CidrBlock>{destination}</destination{v6}CidrBlock><{kind}>{hop}</{kind}><state>{state}</state><origin>{origin}</origin></item>").expect("written");
            }
            body.push_str("</routeSet><associationSet/><propagatingVgwSet/></item>");
        }
        body.push_str("</routeTableSet>");
        if at + 1 < found.len() {
            write!(body, "<nextToken>{}</nextToken>", at + 1).expect("written");
        }
        Ok(body)
    }

    fn change(&mut self, action: &str, given: &BTreeMap<&str, &str>) -> Result<(), &'static str> {
        if action == "ModifyNetworkInterfaceAttribute" {
            assert_eq!((given["NetworkInterfaceId"], given["SourceDestCheck.Value"]), (ENI, "false"));
            self.is_checked = false;
            return Ok(());
        }
        let v4 = given.get("DestinationCidrBlock").filter(|destination| !destination.contains(':'));
        let v6 = given.get("DestinationIpv6CidrBlock").filter(|destination| destination.contains(':'));
        let destination = v4.or(v6).expect("a destination of the parameter's family");
        let rows = &mut self.tables.get_mut(given["RouteTableId"]).expect("a table that was read").rows;
        let at = rows.iter().position(|row| row.origin == CUSTOM && row.destination == *destination);
        match (action, at) {
            ("CreateRoute", Some(_)) => return Err("RouteAlreadyExists"),
            ("CreateRoute", None) if rows.len() >= self.quota => return Err("RouteLimitExceeded"),
            ("CreateRoute", None) => rows.push(row(destination, given["NetworkInterfaceId"])),
            ("ReplaceRoute" | "DeleteRoute", None) => return Err("InvalidRoute.NotFound"),
            ("ReplaceRoute", Some(at)) => rows[at] = row(destination, given["NetworkInterfaceId"]),
            ("DeleteRoute", Some(at)) => drop(rows.remove(at)),
            other => panic!("{other:?}"),
        }
        Ok(())
    }
}

fn answer(status: u16, body: String) -> Response {
    Response { status, body, attempts: 1, ..Response::default() }
}

fn refused(status: u16, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>ea966190</RequestID></Response>"
    );
    answer(status, body)
}

/// This machine: its second interface is the one that has the external interface's address.
pub fn instance() -> Instance {
    let interface = |id: &str, subnet: &str, addresses: &[&str]| NetworkInterface {
        id: id.to_owned(),
        addresses: addresses.iter().map(|address| address.parse().expect("address")).collect(),
        subnet: subnet.to_owned(),
        network: "vpc-1".to_owned(),
        ..NetworkInterface::default()
    };
    Instance {
        id: "i-me".to_owned(),
        region: "eu-central-1".to_owned(),
        interfaces: vec![
            interface("eni-00", "subnet-0", &["192.168.7.7"]),
            interface(ENI, "subnet-1", &["192.168.0.99", "192.168.0.100", "fd77::100"]),
        ],
        ..Instance::default()
    }
}

/// A policy that holds its lease, in front of this EC2.
pub fn bench(ec2: &Shared, config: &str, (v4, v6): (bool, bool)) -> Bench<AwsVpcPolicy> {
    let cloud = ec2.clone();
    let host = Host {
        instance: Ok(instance()),
        cloud: Some(Box::new(move |request: &Request| cloud.borrow_mut().answer(request))),
        ..Host::default()
    };
    let mut bench = Bench::register_on(host, &samples::node(v4, v6), config).expect("registers");
    assert_eq!(bench.lease_acquired(&samples::own()).expect("leased"), [""; 0]);
    bench
}

/// The same with IPv4 alone, and without options.
pub fn plain(ec2: &Shared) -> Bench<AwsVpcPolicy> {
    bench(ec2, "{}", (true, false))
}

/// Seconds until the next tick.
pub fn tick(bench: &mut Bench<AwsVpcPolicy>) -> Result<u64, String> {
    bench.tick().map(|wait| wait.as_ref().map_or(0, Duration::as_secs))
}

/// What was logged for the operator to see to.
pub fn warnings() -> Vec<String> {
    with(|host| {
        let lines = host.log.iter().filter(|(level, _)| *level == Level::Warn);
        lines.map(|(_, line)| line.clone()).collect()
    })
}
