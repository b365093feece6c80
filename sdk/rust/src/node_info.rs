//! What is known of this node besides its addresses. When its labels change, the host starts the policy afresh.

use std::collections::BTreeMap;

/// What the node is called: in Kubernetes as its object is, elsewhere as the host calls itself.
pub fn name() -> String {
    #[cfg(target_family = "wasm")]
    {
        crate::bindings::flannel::backend::node_info::name()
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| host.name.clone())
}

/// The labels of the node's object in Kubernetes; none elsewhere.
pub fn labels() -> BTreeMap<String, String> {
    #[cfg(target_family = "wasm")]
    {
        crate::bindings::flannel::backend::node_info::labels().into_iter().collect()
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| host.labels.clone())
}

/// What the node's operator has given with `--plugin-option`.
pub fn options() -> BTreeMap<String, String> {
    #[cfg(target_family = "wasm")]
    {
        crate::bindings::flannel::backend::node_info::options().into_iter().collect()
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| host.options.clone())
}
