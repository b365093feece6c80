//! What it has in common with other clouds.

use anyhow::{Context, Result};
use ipnet::IpNet;

use super::{Gce, Notice};
use crate::Node;
use crate::cloud::{Cloud, TableRow};

impl Cloud for Gce {
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
                let node = self
                    .lock()
                    .instances
                    .iter()
                    .find(|machine| machine.name == row.instance)
                    .map(|m| m.address);
                Ok(TableRow { destination, name: row.name, hop: row.instance, node })
            })
            .collect()
    }

    fn delete_row(&self, destination: IpNet) -> Result<()> {
        let row = self.rows().into_iter().find(|row| row.destination == destination.to_string());
        let row = row.with_context(|| format!("there is no row for {destination}"))?;
        anyhow::ensure!(self.delete_row(&row.name), "{} is gone", row.name);
        Ok(())
    }

    fn set_full(&self, full: bool) -> Result<()> {
        let rows = if full { self.rows().len() } else { usize::MAX };
        self.limit(rows, Notice::Later);
        Ok(())
    }

    fn mutations(&self) -> usize {
        self.mutations()
    }
}
