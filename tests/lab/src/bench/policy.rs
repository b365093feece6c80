//! The vxlan policy linked natively: what the same decisions cost without WebAssembly and without a host's checks.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use flannel_backend::ipnet::Ipv4Net;
use flannel_backend::testing::{self, Bench, samples};
use flannel_backend::{Lease, PeerId, Policy as _};
use flannel_plugin_vxlan::VxlanPolicy;

/// For how long it is measured, and how often at least.
const TIME: Duration = Duration::from_millis(200);
const LEAST_CALLS: usize = 5;

/// What handing leases over costs.
#[derive(Clone, Copy, Debug)]
pub struct Native {
    /// How many leases.
    pub leases: u16,
    /// Nanoseconds for each lease, of the median run.
    pub lease_ns: u64,
}

/// Measures.
pub fn native(leases: u16) -> Result<Native> {
    let registered = Bench::<VxlanPolicy>::register(&samples::node(true, false), "{}");
    let mut bench = registered.map_err(|error| anyhow!(error))?;
    bench.lease_acquired(&samples::own()).map_err(|error| anyhow!(error))?;
    let peers: Vec<Lease> = (1..=leases).map(lease).collect();
    let mut times = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < TIME || times.len() < LEAST_CALLS {
        let started = Instant::now();
        for (id, lease) in (1..).zip(&peers) {
            bench.policy.put(PeerId(id), lease).map_err(|error| anyhow!(error))?;
        }
        times.push(started.elapsed());
        testing::with(|host| host.declared.clear());
    }
    times.sort_unstable();
    let median = u64::try_from(times[times.len() / 2].as_nanos())?;
    Ok(Native { leases, lease_ns: median / u64::from(leases.max(1)) })
}

fn lease(number: u16) -> Lease {
    let [high, low] = number.to_be_bytes();
    Lease {
        ipv4_subnet: Some(Ipv4Net::new_assert([10, high, low, 0].into(), 24)),
        public_ipv4: Some([172, 20, high, low].into()),
        backend_type: "vxlan".to_owned(),
        backend_data: Some(format!(r#"{{"VNI":1,"VtepMAC":"02:00:00:00:{high:02x}:{low:02x}"}}"#)),
        ..Lease::default()
    }
}
