//! A little cloud: it does what the VPC API does with route entries, as far as the policy can tell.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use flannel_backend::cloud::{Error as CloudError, Operation, Request, Response};
use flannel_backend::serde_json::{Value, json};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: String,
    pub destination: String,
    pub kind: &'static str,
    pub hop: String,
    pub status: &'static str,
}

/// What the cloud has, and what it was asked.
#[derive(Default)]
pub struct Cloud {
    pub rows: Vec<Row>,
    /// Rows as reads see them, if these are old.
    pub seen: Option<Vec<Row>>,
    pub quota: usize,
    pub tokens: BTreeMap<String, String>,
    pub calls: Vec<String>,
    /// What the next calls of an action meet.
    pub faults: BTreeMap<&'static str, VecDeque<Fault>>,
    pub custom_table: bool,
    /// How many rows there have ever been.
    pub made: usize,
}

#[derive(Clone, Copy)]
pub enum Fault {
    Refused(u16, &'static str),
    /// Carried out, but nobody hears of it.
    Lost,
}

pub type Shared = Rc<RefCell<Cloud>>;

impl Cloud {
    pub fn answer(&mut self, request: &Request) -> Result<Response, CloudError> {
        let Operation::Action { name, parameters } = &request.operation else { panic!("{request:?}") };
        assert!(request.idempotent && request.service == "vpc" && request.version == "2016-04-28");
        let parameters: BTreeMap<&str, &str> =
            parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(parameters["RegionId"], "cn-beijing");
        self.calls.push(name.clone());
        let fault = self.faults.get_mut(name.as_str()).and_then(VecDeque::pop_front);
        if let Some(Fault::Refused(status, code)) = fault {
            return Ok(refusal(status, code));
        }
        let outcome = match name.as_str() {
            "DescribeRouteTableList" => Ok(self.tables(&parameters)),
            "DescribeRouteEntryList" => Ok(self.entries(&parameters)),
            "CreateRouteEntry" => self.create(&parameters),
            "DeleteRouteEntry" => self.delete(&parameters),
            other => panic!("{other}"),
        };
        if fault.is_some() {
            return Err(CloudError::Unreachable("the answer breaks off".to_owned()));
        }
        Ok(match outcome {
            Ok(body) => Response { status: 200, body: body.to_string(), ..Response::default() },
            Err(code) => refusal(400, code),
        })
    }

    fn tables(&self, parameters: &BTreeMap<&str, &str>) -> Value {
        assert_eq!(parameters["VpcId"], "vpc-1");
        let mut all = vec![
            json!({ "RouteTableId": "vtb-system", "RouteTableType": "System", "VSwitchIds": { "VSwitchId": ["vsw-2"] } }),
        ];
        if self.custom_table {
            all.push(json!({ "RouteTableId": "vtb-custom", "RouteTableType": "Custom", "VSwitchIds": { "VSwitchId": ["vsw-1"] } }));
        }
        json!({ "TotalCount": all.len(), "RouterTableList": { "RouterTableListType": all } })
    }

    /// Two entries a page, however many are asked for.
    fn entries(&self, parameters: &BTreeMap<&str, &str>) -> Value {
        let fits = |row: &&Row| {
            let is = |name: &str, value: &str| parameters.get(name).is_none_or(|wanted| *wanted == value);
            is("NextHopId", &row.hop)
                && is("NextHopType", row.kind)
                && is("DestinationCidrBlock", &row.destination)
                && is("RouteEntryType", type_of(row))
        };
        let rows: Vec<&Row> = self.seen.as_ref().unwrap_or(&self.rows).iter().filter(fits).collect();
        let begin: usize = parameters.get("NextToken").map_or(0, |token| token.parse().expect("a token"));
        let end = rows.len().min(begin + 2);
        let part: Vec<Value> = rows[begin..end]
            .iter()
            .map(|row| {
                json!({
                    "RouteEntryId": row.id,
                    "DestinationCidrBlock": row.destination,
                    "Status": row.status,
                    "Type": type_of(row),
                    "NextHops": { "NextHop": [{ "NextHopType": row.kind, "NextHopId": row.hop }] },
                })
            })
            .collect();
        let next = if end < rows.len() { end.to_string() } else { String::new() };
        json!({ "RouteEntrys": { "RouteEntry": part }, "NextToken": next })
    }

    fn create(&mut self, parameters: &BTreeMap<&str, &str>) -> Result<Value, &'static str> {
        let (token, destination) = (parameters["ClientToken"], parameters["DestinationCidrBlock"]);
        assert!(token.is_ascii() && token.len() <= 64, "{token}");
        assert_eq!(parameters["NextHopType"], "Instance");
        if let Some(id) = self.tokens.get(token) {
            return Ok(json!({ "RouteEntryId": id }));
        }
        if self.rows.iter().any(|row| row.status != "Available") {
            return Err("IncorrectRouteEntryStatus");
        }
        if self.rows.iter().any(|row| row.destination == destination) {
            return Err("InvalidCIDRBlock.Duplicate");
        }
        if self.rows.len() >= self.quota {
            return Err("QuotaExceeded");
        }
        let id = self.add(destination, "Instance", parameters["NextHopId"], "Pending");
        self.tokens.insert(token.to_owned(), id.clone());
        Ok(json!({ "RouteEntryId": id }))
    }

    fn delete(&mut self, parameters: &BTreeMap<&str, &str>) -> Result<Value, &'static str> {
        let row = self.rows.iter_mut().find(|row| row.id == parameters["RouteEntryId"]);
        row.ok_or("InvalidRouteEntry.NotFound")?.status = "Deleting";
        Ok(json!({}))
    }

    pub fn add(&mut self, destination: &str, kind: &'static str, hop: &str, status: &'static str) -> String {
        self.made += 1;
        let id = format!("rte-{}", self.made);
        let (destination, hop) = (destination.to_owned(), hop.to_owned());
        self.rows.push(Row { id: id.clone(), destination, kind, hop, status });
        id
    }

    /// What is under way comes to its end.
    pub fn settle(&mut self) {
        self.rows.retain(|row| row.status != "Deleting");
        self.rows.iter_mut().for_each(|row| row.status = "Available");
    }

    pub fn changes(&self) -> Vec<&str> {
        self.calls.iter().map(String::as_str).filter(|call| !call.starts_with("Describe")).collect()
    }
}

fn type_of(row: &Row) -> &'static str {
    if row.kind == "local" { "System" } else { "Custom" }
}

fn refusal(status: u16, code: &str) -> Response {
    let body = json!({ "RequestId": "R-1", "HostId": "vpc", "Code": code, "Message": "No\nway." });
    Response { status, body: body.to_string(), ..Response::default() }
}
