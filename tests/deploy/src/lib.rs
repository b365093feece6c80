//! What people apply to a cluster, `deploy/kubernetes/` and `deploy/helm/`, as the real `kubectl` and `helm` render it; and the shapes of
//! others' manifests that this project's image has to fit into.
//!
//! | module | job |
//! |---|---|
//! | [`tools`] | where the two programs are |
//! | [`render`] | manifests and the chart, as objects |
//! | [`objects`] | objects of Kubernetes, read from YAML |
//! | [`workload`] | a DaemonSet's containers |
//! | [`shapes`] | upstream's manifests, and distributions' |
//! | [`daemon`] | what the daemon says of a command line, a network config and a file with grants |

#![warn(unreachable_pub)]

pub mod daemon;
pub mod objects;
pub mod render;
pub mod shapes;
pub mod tools;
pub mod workload;

#[cfg(test)]
mod api_server;
#[cfg(test)]
mod helm_chart;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod others_manifests;

use std::path::{Path, PathBuf};

/// The top of the source tree.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Whether `kubectl` and `helm` are here; if not, the test that asks has said so.
#[cfg(test)]
fn tools_are_here() -> anyhow::Result<bool> {
    let missing = tools::missing()?;
    missing.iter().for_each(flannel_test_support::skip);
    Ok(missing.is_none())
}
