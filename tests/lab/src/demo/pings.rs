//! Packets between the pods: single ones from each to each, and a stream that runs beside everything else.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, bail};

use super::narrator::Step;
use super::table::lay_out;
use crate::ping_probe::millis;
use crate::{Cluster, Echo, Pod};

/// Beyond this many pods a matrix is too wide to be read.
const WIDEST_MATRIX: usize = 12;

/// How large the packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As `ping` sends them.
    Small,
    /// As large as they can be, and not to be cut into pieces.
    Full,
}

impl Size {
    fn echo(self, from: &Pod, to: &Pod, address: IpAddr) -> Echo {
        match self {
            Self::Small => Echo::to(address),
            Self::Full => Echo::to(address).size(largest(from, to, address)).whole(),
        }
    }
}

/// Bytes of the largest packet from one pod to another that each on the way takes in one piece.
fn largest(from: &Pod, to: &Pod, address: IpAddr) -> u32 {
    from.largest(address).min(to.mtu())
}

/// One packet of each family from each pod to each other.
pub fn matrix(step: &mut Step, cluster: &Cluster, size: Size) -> Result<()> {
    matrix_of(step, &cluster.pods().collect::<Vec<_>>(), size)
}

/// The same for any pods.
pub fn matrix_of(step: &mut Step, pods: &[&Pod], size: Size) -> Result<()> {
    let names: Vec<String> = (1..=pods.len()).map(|number| format!("pod{number}")).collect();
    let mut rows = vec![std::iter::once("ms".to_owned()).chain(names.clone()).collect::<Vec<_>>()];
    let (mut answered, mut failures, mut slowest) = (0, Vec::new(), Duration::ZERO);
    for (from_index, from) in pods.iter().enumerate() {
        let mut row = vec![names[from_index].clone()];
        for (to_index, to) in pods.iter().enumerate() {
            if from_index == to_index {
                row.push("-".to_owned());
                continue;
            }
            let mut cells = Vec::new();
            for address in to.addresses() {
                match from.ping(&size.echo(from, to, address)) {
                    Ok(took) => {
                        answered += 1;
                        slowest = slowest.max(took);
                        cells.push(format!("{:.2}", millis(took)));
                    }
                    Err(error) => {
                        failures.push(format!("{error:#}"));
                        cells.push("lost".to_owned());
                    }
                }
            }
            row.push(cells.join(" / "));
        }
        rows.push(row);
    }
    step.figure("answered", answered);
    step.figure("lost", failures.len());
    step.figure("slowest_ms", millis(slowest));
    if pods.len() <= WIDEST_MATRIX {
        step.show(lay_out(&rows));
    }
    if let Some(first) = failures.first() {
        bail!("{} of {} packets were lost; the first: {first}", failures.len(), failures.len() + answered);
    }
    let what = match (size, pods) {
        (Size::Full, [from, to, ..]) => {
            let bytes: Vec<u32> =
                to.addresses().into_iter().map(|address| largest(from, to, address)).collect();
            let text = format!("of {} bytes in one piece ", in_words(&bytes));
            step.figure("bytes", bytes);
            text
        }
        _ => String::new(),
    };
    step.detail(format!("{answered} packets {what}answered, the slowest after {:.2} ms", millis(slowest)));
    Ok(())
}

/// Packets one byte larger than the largest, which must not pass in one piece.
pub fn too_large(step: &mut Step, cluster: &Cluster) -> Result<()> {
    let (from, to) = (cluster.pod(0)?, cluster.pod(1)?);
    from.is_told_what_is_too_large(to)?;
    let bytes: Vec<u32> = to.addresses().into_iter().map(|to| from.largest(to) + 1).collect();
    step.detail(format!("{} bytes in one piece do not pass, and the sender is told", in_words(&bytes)));
    step.figure("bytes", bytes);
    Ok(())
}

fn in_words(bytes: &[u32]) -> String {
    bytes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" (IPv6: ")
        + if bytes.len() > 1 { ")" } else { "" }
}
