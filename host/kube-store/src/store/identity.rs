//! Which node of the cluster this is.

use std::sync::Arc;

use flannel_kube_api::KubeApi;
use flannel_lease_store::StoreError;

use super::reasons;

/// What says which node this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// `NODE_NAME`.
    Node(String),
    /// `POD_NAME` and `POD_NAMESPACE`: the node that this pod is on.
    Pod {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
    },
}

impl Identity {
    /// As the environment has it; none: it says nothing. Empty variables are absent, as upstream takes them.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        if let Some(node) = variable("NODE_NAME") {
            return Some(Self::Node(node));
        }
        let (namespace, name) = variable("POD_NAMESPACE").zip(variable("POD_NAME"))?;
        Some(Self::Pod { namespace, name })
    }
}

/// Asks the API server, if it has to be asked.
pub(super) async fn find(identity: Option<&Identity>, api: &KubeApi) -> Result<Arc<str>, StoreError> {
    let Some(identity) = identity else {
        return Err(StoreError::Setup {
            what: "the node's name",
            value: "(none)".to_owned(),
            reason: "nothing says which node this is: right would be the variables POD_NAME and POD_NAMESPACE, as the manifests set \
                     them, or NODE_NAME"
                .to_owned(),
        });
    };
    match identity {
        Identity::Node(name) => Ok(name.as_str().into()),
        Identity::Pod { namespace, name } => {
            let place = format!("pod {namespace}/{name}");
            match api.pod_node_name(namespace, name).await {
                Ok(Some(node)) => Ok(node.into()),
                Ok(None) => Err(StoreError::Unavailable {
                    place,
                    reason: "the API server does not know yet on which node it is (spec.nodeName)".to_owned(),
                }),
                Err(error) => Err(reasons::of(place, &error)),
            }
        }
    }
}
