//! C: the makefile's own rules, but for the two steps whose tools we have as libraries.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

use crate::cargo::run;

/// What generates the bindings, for the digest of what a component is made of.
pub const GENERATOR: &str = "wit-bindgen-c 0.61";

/// Makes `plugin.wasm`.
pub fn compile(copy: &Path) -> Result<()> {
    generate(&copy.join("wit"), &copy.join("bindings"))?;
    run(Command::new("make").args(["--silent", "module.wasm"]).current_dir(copy))?;
    let module = std::fs::read(copy.join("module.wasm"))?;
    let component = wit_component::ComponentEncoder::default().module(&module)?.validate(true).encode()?;
    Ok(std::fs::write(copy.join("plugin.wasm"), component)?)
}

/// As `wit-bindgen c --world plugin --out-dir bindings wit` does.
fn generate(wit: &Path, bindings: &Path) -> Result<()> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some("plugin"))?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    std::fs::create_dir_all(bindings)?;
    for (name, content) in files.iter() {
        std::fs::write(bindings.join(name), content)?;
    }
    Ok(())
}
