//! A component's compiled form: made ahead of time and embedded, or made once and kept in the cache directory. The form
//! carries the digest of the component that it was made of, and its own, so that neither a stale nor a damaged file is run.

use std::path::Path;

use tracing::{debug, warn};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::digest::{DIGEST, Digest};
use super::{engine, private_dir};

/// Compiles a component for all machines of this architecture, in the form that [`super::BuiltIn`] takes.
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
    // SAFETY: the code is what wasmtime made: its digest, which is kept beside it, fits, and it comes from this binary or
    // from a directory that only this user can write to. wasmtime itself checks its version and settings.
    match unsafe { Component::deserialize(engine, code) } {
        Ok(component) => Some(component),
        Err(error) => {
            debug!(%error, "a compiled plugin does not fit this build: compiling again");
            None
        }
    }
}

/// Compiles a component, unless the cache has it.
pub(crate) fn cached(
    engine: &Engine,
    component: &[u8],
    key: &Digest,
    cache: &Path,
) -> wasmtime::Result<Component> {
    let name = key.hex() + ".cwasm";
    if let Some(packed) = private_dir::read(cache, &name)
        && let Some(loaded) = load(engine, &packed, key)
    {
        return Ok(loaded);
    }
    let code = engine.precompile_component(component)?;
    let packed = pack(component, &code);
    if let Err(error) = private_dir::keep(cache, &name, &packed) {
        warn!(file = %cache.join(name).display(), %error, "the compiled plugin cannot be cached: it is compiled again at the next start");
    }
    // SAFETY: wasmtime made the code just now.
    unsafe { Component::deserialize(engine, code) }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The smallest component: magic number, version and layer.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn a_component_is_compiled_once() {
        let dir = tempfile::tempdir().expect("directory");
        let cache = dir.path().join("cache");
        let (engine, key) = (engine::native().expect("engine"), Digest::of(COMPONENT));
        cached(&engine, COMPONENT, &key, &cache).expect("compiles");
        let file = cache.join(key.hex()).with_extension("cwasm");
        let packed = std::fs::read(&file).expect("cached");
        assert!(load(&engine, &packed, &key).is_some());
        cached(&engine, b"not looked at", &key, &cache).expect("comes from the cache");
    }

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

    #[test]
    fn a_cache_that_others_can_write_to_is_not_used() {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).expect("set");
        let (engine, key) = (engine::native().expect("engine"), Digest::of(COMPONENT));
        cached(&engine, COMPONENT, &key, dir.path()).expect("compiles all the same");
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
    }
}
