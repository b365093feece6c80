//! What the kernel itself takes for the same entries, put in by iproute2.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::feed::Invented;
use crate::Namespace;

/// Puts all entries in with `ip -batch` and `bridge -batch`; the time of both together.
pub fn measure(leases: u32) -> Result<Duration> {
    let space = Namespace::new("the limit")?;
    space.ip_batch([
        "link add under type bridge",
        "address add 172.20.0.1/16 dev under",
        "link set under up",
        "link add flannel.1 type vxlan id 1 dev under local 172.20.0.1 dstport 8472 nolearning",
        "address add 10.255.0.0/32 dev flannel.1",
        "link set flannel.1 up",
    ])?;
    let all = || (0..leases).map(|number| (number + 1, Invented::new(number, 0)));
    let fdb = all().map(|(_, lease)| {
        format!("fdb append {} dev flannel.1 dst {} self permanent", lease.mac(), lease.public())
    });
    let entries = all().flat_map(|(id, lease)| {
        let (subnet, mac) = (lease.subnet(), lease.mac());
        [
            format!("neigh replace {subnet} lladdr {mac} dev flannel.1 nud permanent"),
            format!("nexthop add id {id} via {subnet} dev flannel.1 onlink"),
            format!("route replace {subnet}/24 nhid {id}"),
        ]
    });
    let bridge = batch(&space, "bridge", fdb.collect::<Vec<_>>().join("\n"))?;
    Ok(bridge + batch(&space, "ip", entries.collect::<Vec<_>>().join("\n"))?)
}

fn batch(space: &Namespace, tool: &str, commands: String) -> Result<Duration> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), commands + "\n")?;
    let mut command = space.command(tool);
    command.arg("-batch").arg(file.path()).stdin(Stdio::null());
    let begin = Instant::now();
    let output = command.output().with_context(|| format!("cannot run {tool}"))?;
    let took = begin.elapsed();
    ensure!(output.status.success(), "{tool} -batch: {}", String::from_utf8_lossy(&output.stderr));
    Ok(took)
}
