//! What it has in common with other clouds.

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
        self.rows()
            .into_iter()
            .map(|row| {
                let destination = row.destination.parse().context("a destination")?;
                let machines = self.lock();
                let machine = machines.machines.iter().find(|machine| machine.interface == row.interface);
                let node = machine.map(|machine| machine.address.into());
                Ok(TableRow { destination, name: row.table, hop: row.interface, node })
            })
            .collect()
    }

    fn delete_row(&self, destination: IpNet) -> Result<()> {
        self.delete_row(&self.table_in_use(), &destination.to_string())
    }

    fn set_full(&self, full: bool) -> Result<()> {
        self.limit(if full { self.rows().len() } else { usize::MAX });
        Ok(())
    }

    fn mutations(&self) -> usize {
        self.mutations()
    }
}
