//! From plugin crates to components: `plugins/<name>/` becomes `plugins/<name>.wasm`, and the tests' own components, which are
//! in `tests/components/<name>/`, become `target/components/<name>.wasm`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{cargo, root, run, target, without_paths};
use crate::setup::{self, WasmToolchain};

const WASM: &str = "wasm32-unknown-unknown";

/// A crate to be made a component.
struct Source {
    /// Its package's name.
    package: String,
    /// Where the component goes.
    component: PathBuf,
}

/// Which components are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The plugins.
    Plugins,
    /// The tests' own, too.
    All,
}

/// Builds components; answers with the plugins'.
pub fn build(wanted: Wanted) -> Result<Vec<PathBuf>> {
    setup::system_packages()?;
    let plugins = sources("plugins", &root().join("plugins"), "flannel-plugin-")?;
    let fixtures = match wanted {
        Wanted::Plugins => Vec::new(),
        Wanted::All => sources("tests/components", &target().join("components"), "flannel-component-")?,
    };
    let all = || plugins.iter().chain(&fixtures);
    let out = compile(&all().map(|source| source.package.as_str()).collect::<Vec<_>>())?;
    for source in all() {
        let module = out.join(source.package.replace('-', "_")).with_extension("wasm");
        componentize(&module, &source.component)
            .with_context(|| format!("cannot make a component of {}", module.display()))?;
    }
    Ok(plugins.into_iter().map(|source| source.component).collect())
}

fn sources(folder: &str, into: &Path, prefix: &str) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join(folder)).with_context(|| format!("cannot list {folder}"))? {
        let path = entry?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && path.join("Cargo.toml").is_file()
        {
            let component = into.join(name).with_extension("wasm");
            found.push(Source { package: format!("{prefix}{name}"), component });
        }
    }
    found.sort_by(|a, b| a.package.cmp(&b.package));
    Ok(found)
}

/// Compiles the crates to core modules, in a target directory of their own: another compiler may be at work there. Answers
/// where the modules are.
fn compile(packages: &[&str]) -> Result<PathBuf> {
    let out = target().join("wasm");
    let mut command = match setup::wasm_toolchain()? {
        WasmToolchain::Rustup => cargo(&["build"]),
        WasmToolchain::Debian => debian_cargo(),
    };
    command.args(["--quiet", "--profile", "plugin", "--target", WASM]).env("CARGO_TARGET_DIR", &out);
    // Panics say where they were. Flags for all targets would be taken instead of these.
    command
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", without_paths()?)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    for package in packages {
        command.args(["--package", package]);
    }
    run(&mut command)?;
    Ok(out.join(WASM).join("plugin"))
}

/// Debian's cargo, kept clear of what rustup's put into our environment.
fn debian_cargo() -> Command {
    let mut command = Command::new("/usr/bin/cargo");
    command.args(["build", "-Zbuild-std=std,panic_abort"]).current_dir(root());
    let ours: Vec<_> = std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| {
            let name = name.to_string_lossy();
            name.starts_with("CARGO") && name != "CARGO_HOME" || name.starts_with("RUST")
        })
        .collect();
    for name in ours {
        command.env_remove(name);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("/usr/bin:{path}"))
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "/usr/bin/wasm-ld");
    command
}

fn componentize(module: &Path, component: &Path) -> Result<()> {
    let bytes = std::fs::read(module)?;
    let encoded = wit_component::ComponentEncoder::default().module(&bytes)?.validate(true).encode()?;
    if let Some(directory) = component.parent() {
        std::fs::create_dir_all(directory)?;
    }
    write_if_changed(component, &encoded)
}

/// Leaves a file that is as it should be untouched, so that nothing is built again because of it.
pub fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|before| before == bytes) {
        return Ok(());
    }
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("{}: {} bytes", path.strip_prefix(root()).unwrap_or(path).display(), bytes.len());
    Ok(())
}
