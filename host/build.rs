//! Lists the plugins to embed: for each crate `plugins/<backend type>/` the component `plugins/<backend type>.wasm` and its
//! compiled form `plugins/<backend type>.cwasm`, as far as `cargo xtask build` has made them. A build without them works, with
//! `--plugin FILE` only.
//!
//! What the files contain is no business of this script: the compiler notices when a file that it has included changes, and
//! then builds the binary crate again and not the library.

use std::fmt::Write;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    // `cargo xtask` says here which plugins there are, so that a new one is noticed.
    println!("cargo:rerun-if-env-changed=FLANNELD_PLUGINS");
    let plugins = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../plugins").canonicalize()?;
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(&plugins)? {
        let path = entry?.path();
        if path.join("Cargo.toml").is_file()
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    let mut code =
        String::from("/// The plugins that are part of this binary.\npub static BUILT_IN: &[BuiltIn] = &[\n");
    for name in names {
        let file = |extension: &str| -> Option<String> {
            let path = plugins.join(format!("{name}.{extension}"));
            if !path.is_file() {
                println!("cargo:rerun-if-changed={}", path.display());
            }
            path.is_file().then(|| path.display().to_string())
        };
        let Some(component) = file("wasm") else {
            println!("cargo:warning=the plugin {name} is not built in: `cargo xtask build` does that");
            continue;
        };
        let compiled =
            file("cwasm").map_or_else(|| "None".to_owned(), |path| format!("Some(include_bytes!({path:?}))"));
        writeln!(
            code,
            "    BuiltIn {{ backend_type: {name:?}, component: include_bytes!({component:?}), compiled: {compiled} }},"
        )?;
    }
    code.push_str("];\n");
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("built_in.rs"), code)?;
    Ok(())
}
