//! What goes wrong, in words for an operator. All that time, another operator or a mounted file can heal is waited for.

use flannel_kube_api::{ConnectionError, KubeError};
use flannel_lease_store::StoreError;

use crate::cidrs::CidrError;

/// Of something that the API server was asked.
pub(super) fn of(place: String, error: &KubeError) -> StoreError {
    match error {
        // What only the command line or the environment can mend.
        KubeError::Connection(
            error @ (ConnectionError::NoConfiguration { .. }
            | ConnectionError::NoCluster { .. }
            | ConnectionError::Variable { .. }
            | ConnectionError::Url { .. }),
        ) => StoreError::Setup { what: "the API server", value: place, reason: error.to_string() },
        KubeError::Forbidden { verb, resource, .. } => StoreError::Unavailable {
            place,
            reason: format!(
                "{error}; its ClusterRole needs the rule {{apiGroups: [\"\"], resources: [\"{resource}\"], verbs: [{}]}}",
                verbs(verb)
            ),
        },
        error => StoreError::Unavailable { place, reason: error.to_string() },
    }
}

/// Of this node's own object.
pub(super) fn of_node(name: &str, error: &KubeError) -> StoreError {
    of(format!("node {name}"), error)
}

/// Of the subnets that it has been assigned.
pub(super) fn of_cidrs(name: &str, error: &CidrError) -> StoreError {
    StoreError::Unavailable { place: format!("node {name}"), reason: error.to_string() }
}

/// Who may follow nodes needs both: which of them is asked for first depends on the server.
fn verbs(verb: &str) -> String {
    match verb {
        "list" | "watch" => r#""list", "watch""#.to_owned(),
        verb => format!("{verb:?}"),
    }
}
