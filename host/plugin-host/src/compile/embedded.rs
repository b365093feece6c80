//! The compiled form of what is built in: made ahead of time, with the digest of the component that it was made of, and its own, so that
//! neither a stale nor a damaged one is run.

use tracing::debug;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::digest::{DIGEST, Digest};
use crate::engine;

/// Compiles a component for all machines of this architecture, in the form that [`crate::BuiltIn`] takes.
pub fn compile_for_embedding(component: &[u8]) -> wasmtime::Result<Vec<u8>> {
    Ok(pack(component, &engine::portable()?.precompile_component(component)?))
}

fn pack(component: &[u8], code: &[u8]) -> Vec<u8> {
    [Digest::of(component).as_bytes().as_slice(), Digest::of(code).as_bytes(), code].concat()
}

/// The code in a packed form, if it was made of the component with this digest and is whole.
fn unpack<'a>(packed: &'a [u8], component: &Digest) -> Option<&'a [u8]> {
    let (made_of, rest) = packed.split_first_chunk::<DIGEST>()?;
    let (own, code) = rest.split_first_chunk::<DIGEST>()?;
    (made_of == component.as_bytes() && own == Digest::of(code).as_bytes()).then_some(code)
}

/// Loads a packed form. `None`: it is of another component, damaged, or of another wasmtime.
pub(crate) fn load(engine: &Engine, packed: &[u8], component: &Digest) -> Option<Component> {
    let code = unpack(packed, component)?;
    // SAFETY: the code is what wasmtime made: its digest, which is kept beside it, fits, and it is part of this binary. wasmtime itself
    // checks its version and settings.
    match unsafe { Component::deserialize(engine, code) } {
        Ok(component) => Some(component),
        Err(error) => {
            debug!(%error, "a compiled plugin does not fit this build: compiling again");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest component: magic number, version and layer.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn a_damaged_or_stale_form_is_not_run() {
        let (engine, key) = (engine::native().expect("engine"), Digest::of(COMPONENT));
        let packed = compile_for_embedding(COMPONENT).expect("compiles");
        assert!(load(&engine, &packed, &key).is_some());
        assert!(load(&engine, &packed, &Digest::of(b"another")).is_none());
        for position in [0, DIGEST, 2 * DIGEST + 7, packed.len() - 1] {
            let mut damaged = packed.clone();
            damaged[position] ^= 1;
            assert!(load(&engine, &damaged, &key).is_none(), "byte {position}");
        }
        assert!(load(&engine, &packed[..packed.len() / 2], &key).is_none());
        assert!(load(&engine, &[], &key).is_none());
    }
}
