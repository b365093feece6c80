//! A small durable store of the plugin's own, kept over restarts.

use crate::Error;

/// The value of a key, or none. Sees what the same call has written.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    #[cfg(target_family = "wasm")]
    {
        crate::bindings::flannel::backend::state::get(key).map_err(crate::convert::error)
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| Ok(host.state.get(key).cloned()))
}

/// Sets a key's value, or removes the key. Keys are 1 to 64 characters of `a-z`, `0-9`, `-`, `_`, `.`.
pub fn set(key: &str, value: Option<&[u8]>) -> Result<(), Error> {
    #[cfg(target_family = "wasm")]
    {
        crate::bindings::flannel::backend::state::set(key, value).map_err(crate::convert::error)
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| {
        match value {
            Some(value) => host.state.insert(key.to_owned(), value.to_vec()),
            None => host.state.remove(key),
        };
        Ok(())
    })
}
