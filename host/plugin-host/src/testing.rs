//! For tests with real components.

use std::path::PathBuf;

/// A component that `cargo xtask plugins` made.
///
/// # Panics
/// If it is not there.
pub fn component(name: &str) -> PathBuf {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let fixtures = std::env::var_os("FLANNELD_TEST_COMPONENTS")
        .map_or_else(|| top.join("target/components"), PathBuf::from);
    let found = [top.join("plugins"), fixtures].map(|dir| dir.join(name).with_extension("wasm"));
    found.into_iter().find(|file| file.is_file()).expect("the component is built: run `cargo xtask plugins`")
}
