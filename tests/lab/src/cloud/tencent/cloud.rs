//! What it has in common with other clouds.

use anyhow::{Context, Result};
use ipnet::IpNet;

use super::{METADATA, Row, Tencent};
use crate::Node;
use crate::cloud::{Cloud, TableRow};

impl Cloud for Tencent {
    fn arguments(&self) -> Vec<String> {
        vec![
            format!("--cloud-endpoint=tencent:vpc={}", self.endpoint()),
            // The lab has no resolver that knows its name.
            format!("--cloud-endpoint=tencent:metadata=http://{METADATA}"),
        ]
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
        let row = |row: Row| {
            let node = row.machine().map(Into::into);
            TableRow { destination: row.destination.into(), name: table.clone(), hop: row.hop, node }
        };
        Ok(self.rows().into_iter().map(row).collect())
    }

    fn delete_row(&self, destination: IpNet) -> Result<()> {
        let IpNet::V4(destination) = destination else { anyhow::bail!("{destination} is none of IPv4") };
        self.delete(destination).then_some(()).with_context(|| format!("there is no row for {destination}"))
    }

    fn set_full(&self, full: bool) -> Result<()> {
        self.set_quota(if full { self.rows().len() } else { usize::MAX });
        Ok(())
    }

    fn mutations(&self) -> usize {
        self.mutations()
    }
}
