//! Why there is no client.

use std::path::PathBuf;

/// What is wrong with what the API server and the credentials are found by. Says nothing of what secrets are.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConnectionError {
    /// Nothing says where the API server is.
    #[error(
        "no cluster is configured: outside a pod, --kubeconfig-file or --kube-api-url is needed ({variable} is not set)"
    )]
    NoConfiguration {
        /// What a pod would have.
        variable: &'static str,
    },
    /// A variable has no value that makes sense.
    #[error("{variable}={value:?}: right would be {right}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        right: &'static str,
    },
    /// A URL is none.
    #[error("{origin}: {url:?} is no URL of an API server; right would be one like https://10.0.0.1:6443")]
    Url {
        /// Who says it.
        origin: String,
        /// What it says, without credentials.
        url: String,
    },
    /// A kubeconfig without clusters, outside a pod.
    #[error("{}: it has no clusters; right would be a kubeconfig, or none in a pod", file.display())]
    NoCluster {
        /// The kubeconfig.
        file: PathBuf,
    },
    /// A file is not what it should be.
    #[error("{}: {reason}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The plugin that a kubeconfig names gives no credentials.
    #[error("the exec plugin {command:?} of {}: {reason}", file.display())]
    Exec {
        /// The plugin.
        command: String,
        /// The kubeconfig.
        file: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// No client comes of what was found.
    #[error("{origin}: {reason}")]
    Client {
        /// Where the credentials are from.
        origin: String,
        /// What went wrong.
        reason: String,
    },
}
