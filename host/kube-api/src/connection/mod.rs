//! Which cluster, and with which credentials: `--kube-api-url`, `--kubeconfig-file`, or what Kubernetes gives each pod.
//!
//! | URL | kubeconfig | result |
//! |---|---|---|
//! | – | – | the pod's own cluster, token and authorities |
//! | – | given | its current context |
//! | given | given | its current context, with this URL as the server |
//! | given | – | this URL; in a pod with the pod's token and authorities, if it is `https` |
//! | any | given, without any cluster | the pod's own, with this URL as the server |

mod client;
mod error;
mod files;
mod identity;
mod kubeconfig;
mod pod;
mod url;

use std::path::PathBuf;
use std::sync::Arc;

use kube::Config;

pub(crate) use client::Connection;
pub use error::ConnectionError;
pub use pod::PodEnvironment;

/// Where the API server is said to be.
#[derive(Clone, Debug, Default)]
pub struct ClusterAccess {
    /// `--kube-api-url`; empty is the same as absent.
    pub api_url: Option<String>,
    /// `--kubeconfig-file`; empty is the same as absent.
    pub kubeconfig_file: Option<PathBuf>,
    /// What Kubernetes gives this process, if it runs in a pod.
    pub pod: PodEnvironment,
}

/// All that a client is made of. No `Debug`: there are credentials in it.
struct Found {
    config: Config,
    /// What it was read from, to be read again when it changes.
    files: Vec<PathBuf>,
    /// For messages.
    place: Arc<Place>,
}

/// Where the API server is, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The server's URL, without credentials.
    pub address: String,
    /// Where that and the credentials come from.
    pub source: String,
}

impl ClusterAccess {
    /// Reads everything anew. Reads files, and waits for them: not for asynchronous code.
    fn find(&self) -> Result<Found, ConnectionError> {
        let url = self.api_url.as_deref().filter(|url| !url.is_empty());
        let file = self.kubeconfig_file.as_deref().filter(|file| !file.as_os_str().is_empty());
        let Some(file) = file else { return self.pod.find(url) };
        match kubeconfig::find(file, url)? {
            Some(found) => Ok(found),
            None if self.pod.is_complete() => {
                let mut found = self.pod.find(url)?;
                found.files.push(file.to_owned());
                Ok(found)
            }
            None => Err(ConnectionError::NoCluster { file: file.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests;
