//! A little cloud: it does what the VPC API does with routes, as far as the policy can tell.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use flannel_backend::cloud::{Error as CloudError, Operation, Request, Response};
use flannel_backend::serde_json::{Value, json};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: u64,
    pub table: &'static str,
    pub destination: String,
    pub kind: &'static str,
    pub hop: String,
    pub enabled: bool,
}

/// What the cloud has, and what it was asked.
#[derive(Default)]
pub struct Cloud {
    pub rows: Vec<Row>,
    /// Rows as reads see them, if these are old.
    pub seen: Option<Vec<Row>>,
    pub quota: usize,
    pub calls: Vec<String>,
    /// What the next calls of an action meet.
    pub faults: BTreeMap<&'static str, VecDeque<Fault>>,
    /// The instance's subnet has a table of its own.
    pub custom_table: bool,
    /// How many rows there have ever been.
    pub made: u64,
}

#[derive(Clone, Copy)]
pub enum Fault {
    Refused(&'static str),
    /// Carried out, but nobody hears of it.
    Lost,
}

pub type Shared = Rc<RefCell<Cloud>>;

impl Cloud {
    pub fn answer(&mut self, request: &Request) -> Result<Response, CloudError> {
        let Operation::Action { name, parameters } = &request.operation else { panic!("{request:?}") };
        assert!(request.idempotent && request.service == "vpc" && request.version == "2017-03-12");
        let parameters: BTreeMap<&str, &str> =
            parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.calls.push(name.clone());
        let fault = self.faults.get_mut(name.as_str()).and_then(VecDeque::pop_front);
        if let Some(Fault::Refused(code)) = fault {
            return Ok(refusal(code));
        }
        let outcome = match name.as_str() {
            "DescribeRouteTables" => Ok(self.tables(&parameters)),
            "CreateRoutes" => self.create(&parameters),
            "DeleteRoutes" => self.delete(&parameters),
            other => panic!("{other}"),
        };
        if fault.is_some() {
            return Err(CloudError::Unreachable("the answer breaks off".to_owned()));
        }
        Ok(match outcome {
            Ok(mut response) => {
                response["RequestId"] = json!("R-1");
                let body = json!({ "Response": response });
                Response { status: 200, body: body.to_string(), ..Response::default() }
            }
            Err(code) => refusal(code),
        })
    }

    /// 25 tables, so that there are two pages; of them three have a meaning.
    fn tables(&self, parameters: &BTreeMap<&str, &str>) -> Value {
        assert_eq!((parameters["Filters.0.Name"], parameters["Filters.0.Values.0"]), ("vpc-id", "vpc-1"));
        let number = |name: &str| -> usize { parameters[name].trim_matches('"').parse().expect("a number") };
        let names = ["rtb-other", "rtb-main"].into_iter().map(ToOwned::to_owned);
        let names = names.chain((0..22).map(|at| format!("rtb-x{at}"))).chain(["rtb-custom".to_owned()]);
        let tables: Vec<Value> = names.map(|name| self.table(&name)).collect();
        let part: Vec<&Value> = tables.iter().skip(number("Offset")).take(number("Limit")).collect();
        json!({ "TotalCount": tables.len(), "RouteTableSet": part })
    }

    fn table(&self, id: &str) -> Value {
        let subnet = match id {
            "rtb-custom" if self.custom_table => "subnet-1",
            "rtb-other" => "subnet-2",
            _ => "subnet-9",
        };
        let rows = self.seen.as_ref().unwrap_or(&self.rows).iter().filter(|row| row.table == id);
        let routes: Vec<Value> = rows
            .map(|row| {
                json!({
                    "RouteId": row.id,
                    "RouteItemId": format!("rti-{}", row.id),
                    "DestinationCidrBlock": row.destination,
                    "DestinationIpv6CidrBlock": "",
                    "GatewayType": row.kind,
                    "GatewayId": row.hop,
                    "RouteType": if row.kind == "LOCAL" { "NETD" } else { "USER" },
                    "Enabled": row.enabled,
                })
            })
            .collect();
        json!({
            "RouteTableId": id,
            "Main": id == "rtb-main",
            "VpcId": "vpc-1",
            "AssociationSet": [{ "SubnetId": subnet, "RouteTableId": id }],
            "RouteSet": routes,
        })
    }

    fn create(&mut self, parameters: &BTreeMap<&str, &str>) -> Result<Value, &'static str> {
        let destination = parameters["Routes.0.DestinationCidrBlock"];
        assert_eq!(parameters["Routes.0.GatewayType"], "NORMAL_CVM");
        let table = known(parameters["RouteTableId"]);
        let mut there = self.rows.iter().filter(|row| row.table == table);
        if there.clone().any(|row| row.destination == destination) {
            return Err("InvalidParameterValue.Duplicate");
        }
        if there.by_ref().count() >= self.quota {
            return Err("LimitExceeded");
        }
        self.add_to(table, destination, "NORMAL_CVM", parameters["Routes.0.GatewayId"]);
        Ok(json!({ "TotalCount": 1, "RouteTableSet": [] }))
    }

    fn delete(&mut self, parameters: &BTreeMap<&str, &str>) -> Result<Value, &'static str> {
        let (table, before) = (known(parameters["RouteTableId"]), self.rows.len());
        self.rows.retain(|row| row.table != table || row.id.to_string() != parameters["Routes.0.RouteId"]);
        if self.rows.len() < before { Ok(json!({ "RouteSet": [] })) } else { Err("ResourceNotFound") }
    }

    pub fn add_to(&mut self, table: &'static str, destination: &str, kind: &'static str, hop: &str) {
        self.made += 1;
        let (destination, hop) = (destination.to_owned(), hop.to_owned());
        self.rows.push(Row { id: self.made, table, destination, kind, hop, enabled: true });
    }

    pub fn add(&mut self, destination: &str, kind: &'static str, hop: &str) {
        self.add_to("rtb-main", destination, kind, hop);
    }

    pub fn changes(&self) -> Vec<&str> {
        self.calls.iter().map(String::as_str).filter(|call| !call.starts_with("Describe")).collect()
    }
}

fn known(table: &str) -> &'static str {
    ["rtb-main", "rtb-custom", "rtb-other"].into_iter().find(|name| *name == table).expect("a table")
}

fn refusal(code: &str) -> Response {
    let error = json!({ "Code": code, "Message": "No\nway." });
    let body = json!({ "Response": { "Error": error, "RequestId": "R-1" } });
    Response { status: 200, body: body.to_string(), ..Response::default() }
}
