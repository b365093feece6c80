//! What it has in common with other clouds.

use anyhow::Result;
use ipnet::IpNet;

use super::{Hetzner, Row, machine};
use crate::Node;
use crate::cloud::{Cloud, TableRow};

impl Cloud for Hetzner {
    fn arguments(&self) -> Vec<String> {
        vec![format!("--http-endpoints={}", self.endpoints_file().display())]
    }

    fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn join(&self, node: &Node) -> Result<()> {
        self.lock().machines.push(machine(node));
        Ok(())
    }

    fn table(&self) -> Result<Vec<TableRow>> {
        let row = |Row { destination, gateway }: Row| TableRow {
            destination: IpNet::V4(destination),
            name: destination.to_string(),
            hop: gateway.to_string(),
            node: Some(gateway.into()),
        };
        Ok(self.rows().into_iter().map(row).collect())
    }

    fn delete_row(&self, destination: IpNet) -> Result<()> {
        anyhow::ensure!(self.delete_row(&destination.to_string()), "there is no row for {destination}");
        Ok(())
    }

    fn set_full(&self, full: bool) -> Result<()> {
        self.limit(if full { self.rows().len() } else { usize::MAX });
        Ok(())
    }

    fn mutations(&self) -> usize {
        self.mutations()
    }
}
