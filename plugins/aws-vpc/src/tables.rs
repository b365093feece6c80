//! Which route tables get this node's rows.

use flannel_backend::cloud::NetworkInterface;

use crate::api::{Ec2, Error, Table};

/// The tables of the option, or else the one that the interface's subnet uses; and what is wrong with others.
pub fn find(ec2: &mut Ec2, configured: &[String], interface: &NetworkInterface) -> (Vec<Table>, Vec<String>) {
    if !configured.is_empty() {
        return named(ec2, configured);
    }
    match detected(ec2, interface) {
        Ok(tables) => (tables, Vec::new()),
        Err(problem) => (Vec::new(), vec![problem]),
    }
}

/// All with one request, and each with its own where one of them spoils that.
fn named(ec2: &mut Ec2, ids: &[String]) -> (Vec<Table>, Vec<String>) {
    match by_id(ec2, ids) {
        Err(Error::Refused(refusal)) if refusal.is_wrong_table() && ids.len() > 1 => {}
        Ok(tables) => return (tables, Vec::new()),
        Err(error) => return (Vec::new(), vec![text(error)]),
    }
    let (mut tables, mut problems) = (Vec::new(), Vec::new());
    for id in ids {
        match by_id(ec2, std::slice::from_ref(id)) {
            Ok(table) => tables.extend(table),
            Err(error) => problems.push(text(error)),
        }
    }
    (tables, problems)
}

fn by_id(ec2: &mut Ec2, ids: &[String]) -> Result<Vec<Table>, Error> {
    let parameters = ids.iter().enumerate().map(|(at, id)| (format!("RouteTableId.{}", at + 1), id.clone()));
    let tables = ec2.tables(&parameters.collect::<Vec<_>>())?;
    match ids.iter().find(|id| tables.iter().all(|table| table.id != **id)) {
        Some(id) => Err(Error::Failed(format!(
            "RouteTableID: DescribeRouteTables: EC2's answer lacks route table {id}"
        ))),
        None => Ok(tables),
    }
}

fn text(error: Error) -> String {
    match error {
        Error::Refused(refusal) if refusal.is_wrong_table() => {
            format!("RouteTableID: {refusal}: name a route table of this node's VPC, or leave the option out")
        }
        other => other.into(),
    }
}

/// The subnet's own table, or else the VPC's main one.
fn detected(ec2: &mut Ec2, interface: &NetworkInterface) -> Result<Vec<Table>, String> {
    let NetworkInterface { id, subnet, network, .. } = interface;
    if subnet.is_empty() || network.is_empty() {
        return Err(format!(
            "the metadata service does not say in which subnet and VPC {id} is: set RouteTableID"
        ));
    }
    let mut tables = filtered(ec2, &[("association.subnet-id", subnet)])?;
    if tables.is_empty() {
        tables = filtered(ec2, &[("association.main", "true"), ("vpc-id", network)])?;
    }
    if tables.is_empty() {
        return Err(format!("neither subnet {subnet} nor VPC {network} has a route table: set RouteTableID"));
    }
    Ok(tables)
}

fn filtered(ec2: &mut Ec2, filters: &[(&str, &str)]) -> Result<Vec<Table>, Error> {
    let parameters = filters.iter().enumerate().flat_map(|(at, (name, value))| {
        let filter = format!("Filter.{}", at + 1);
        [(format!("{filter}.Name"), (*name).to_owned()), (format!("{filter}.Value.1"), (*value).to_owned())]
    });
    ec2.tables(&parameters.collect::<Vec<_>>())
}
