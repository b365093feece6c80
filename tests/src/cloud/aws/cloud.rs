//! What it has in common with other clouds.

use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;

use super::Aws;
use crate::Node;
use crate::cloud::{Cloud, TableRow};

impl Cloud for Aws {
    fn arguments(&self) -> Vec<String> {
        vec![format!("--cloud-endpoint={}", self.endpoint())]
    }

    fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn join(&self, node: &Node) -> Result<()> {
        self.add(node)
    }

    fn table(&self) -> Result<Vec<TableRow>> {
        let in_use = self.table_in_use();
        let rows = self.rows().into_iter().filter(|row| row.table == in_use);
        rows.map(|row| {
            let machines = &self.lock().machines;
            let node = machines.iter().find(|machine| machine.interface == row.interface);
            let node = node.filter(|_| row.state == "active").map(|machine| IpAddr::from(machine.address));
            let destination = row.destination.parse().context("a destination")?;
            Ok(TableRow { destination, name: row.table, hop: row.interface, node })
        })
        .collect()
    }

    fn delete_row(&self, destination: IpNet) -> Result<()> {
        self.delete_row(&self.table_in_use(), &destination.to_string())
    }

    fn set_full(&self, full: bool) -> Result<()> {
        let rows = self.rows().into_iter().filter(|row| row.table == self.table_in_use()).count();
        self.limit(if full { rows } else { usize::MAX });
        Ok(())
    }

    fn mutations(&self) -> usize {
        self.mutations()
    }
}
