//! What this node says of itself in its lease, when that changes while the plugin runs.

use crate::Error;

/// Publishes this from now on, in place of what [`crate::Policy::register`] has answered, or an earlier call: JSON text for each family, or none.
/// It counts when the call of the policy succeeds, and is written at most once a second. A fresh instance's registration takes its place.
pub fn publish(backend_data: Option<&str>, backend_v6_data: Option<&str>) -> Result<(), Error> {
    #[cfg(target_family = "wasm")]
    {
        crate::bindings::flannel::backend::own_lease::publish(backend_data, backend_v6_data)
            .map_err(crate::convert::error)
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| {
        host.published.push((backend_data.map(str::to_owned), backend_v6_data.map(str::to_owned)));
        Ok(())
    })
}
