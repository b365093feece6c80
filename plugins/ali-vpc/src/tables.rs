//! Which route tables get this node's row.

use std::time::Duration;

use flannel_backend::clock;
use flannel_backend::cloud::Instance;

use crate::api::{self, Table};
use crate::options::Options;

/// How long what was found is good for: which table a vSwitch uses changes seldom, and asking costs all nodes a call each time.
const KEPT: Duration = Duration::from_mins(10);

/// What was found, and when.
#[derive(Debug, Default)]
pub struct Tables(Option<(Duration, String)>);

impl Tables {
    /// Those of the options, else the one that this instance's vSwitch uses.
    pub fn of(&mut self, me: &Instance, options: &Options) -> Result<Vec<String>, String> {
        if !options.tables.is_empty() {
            return Ok(options.tables.clone());
        }
        let now = clock::monotonic();
        if let Some((at, table)) = &self.0
            && now.saturating_sub(*at) < KEPT
        {
            return Ok(vec![table.clone()]);
        }
        let interface = me.interfaces.first().filter(|interface| !interface.network.is_empty());
        let interface = interface.ok_or("the metadata service names no VPC: is this instance in one?")?;
        let all = api::tables(me, &interface.network)?;
        let table = used_by(&all, &interface.subnet).ok_or_else(|| {
            let (vpc, vswitch) = (&interface.network, &interface.subnet);
            format!("DescribeRouteTableList: {vpc} has no system route table, and none for {vswitch}")
        })?;
        self.0 = Some((now, table.clone()));
        Ok(vec![table])
    }

    /// Looks anew next time.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}

/// A vSwitch that has been given a custom table uses that one, and the system table otherwise.
fn used_by(all: &[Table], vswitch: &str) -> Option<String> {
    let associated = all.iter().find(|table| table.vswitches.iter().any(|used_by| used_by == vswitch));
    let system = || all.iter().find(|table| table.is_system);
    associated.or_else(system).map(|table| table.id.clone())
}
