//! What it has in common with other clouds.

use anyhow::Result;
use ipnet::IpNet;

use super::{Alibaba, address_of};
use crate::Node;
use crate::cloud::{Cloud, TableRow};

impl Cloud for Alibaba {
    fn arguments(&self) -> Vec<String> {
        vec![format!("--cloud-endpoint=alibaba:vpc={}", self.endpoint())]
    }

    fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Whoever asks is a machine.
    fn join(&self, _: &Node) -> Result<()> {
        Ok(())
    }

    fn table(&self) -> Result<Vec<TableRow>> {
        let table = self.table();
        let row = |(destination, hop): (IpNet, String)| {
            let node = address_of(&hop).map(Into::into);
            TableRow { destination, name: table.clone(), hop, node }
        };
        Ok(self.rows().into_iter().map(row).collect())
    }

    fn delete_row(&self, destination: IpNet) -> Result<()> {
        anyhow::ensure!(self.delete(destination)?, "there is no row for {destination}");
        Ok(())
    }

    fn set_full(&self, full: bool) -> Result<()> {
        self.set_quota(if full { self.entries().len() } else { usize::MAX });
        Ok(())
    }

    fn mutations(&self) -> usize {
        self.mutations()
    }
}
