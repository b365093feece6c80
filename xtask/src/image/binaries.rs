//! Our own programs, static, for any of the architectures: LLVM's compiler and linker make them for all alike.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::architecture::Architecture;
use super::debian;
use super::sbom::{self, Crate};
use super::tree::Entry;
use crate::cargo::{cargo, output, plugin_crates, root, run, succeeds, target, without_paths};
use crate::plugins::{self, Wanted};
use crate::{release, setup};

/// What the image has of ours.
pub struct Binaries {
    /// flanneld.
    pub daemon: Vec<u8>,
    /// The CNI plugin.
    pub cni: Vec<u8>,
}

/// Builds them: flanneld as a release is, with the list of its dependencies in it.
pub fn build(architecture: Architecture) -> Result<Binaries> {
    let triple = architecture.target();
    setup::programs(&[("clang", "clang")])?;
    has_target(&triple)?;
    let daemon = target().join(&triple).join("release/flanneld");
    let components = plugins::build(Wanted::Plugins)?;
    let compiled = target().join("tools/image/compiled").join(architecture.name());
    std::fs::create_dir_all(&compiled)?;
    let forms: Vec<(PathBuf, PathBuf)> = components
        .into_iter()
        .filter_map(|component| {
            Some((compiled.join(component.file_name()?).with_extension("cwasm"), component))
        })
        .collect();
    for (form, _) in forms.iter().filter(|(form, _)| !form.exists()) {
        // An empty form is as good as none, until there is a daemon that makes it.
        std::fs::write(form, [])?;
    }
    let headers = headers(architecture)?;
    let build = || -> Result<()> {
        let mut command = release::auditable_build()?;
        if let Some(headers) = &headers {
            let name = format!("CFLAGS_{}", triple.replace('-', "_"));
            command.env(name, format!("-isystem {}", headers.display()));
        }
        run(for_target(&mut command, &triple)?.env("FLANNELD_COMPILED", &compiled))
    };
    build()?;
    for (form, component) in &forms {
        compile(architecture, &daemon, component, form)?;
    }
    build()?;
    release::check_binary(&daemon)?;
    let mut command = cargo(&["build", "--profile", "cni", "--package", "flannel-cni"]);
    run(for_target(&mut command, &triple)?)?;
    let read = |file: &Path| std::fs::read(file).with_context(|| file.display().to_string());
    Ok(Binaries { daemon: read(&daemon)?, cni: read(&target().join(&triple).join("cni/flannel"))? })
}

/// The headers of the C library for another architecture than this machine's, whose own are good enough for the few lines of C that there are.
fn headers(architecture: Architecture) -> Result<Option<PathBuf>> {
    if architecture == Architecture::native()? {
        return Ok(None);
    }
    let place = target().join("tools/image/headers").join(architecture.name());
    let below = format!("usr/include/{}-linux-musl/", architecture.machine());
    for package in debian::fetch(architecture, "headers", &["musl-dev"])? {
        for (path, entry) in &package.files {
            if let (Some(name), Entry::File(_, content)) = (path.strip_prefix(&below), entry) {
                let file = place.join(name);
                std::fs::create_dir_all(file.parent().unwrap_or(&place))?;
                plugins::write_if_changed(&file, content)?;
            }
        }
    }
    Ok(Some(place))
}

/// Makes the compiled form of a plugin, with the daemon that is to have it.
fn compile(architecture: Architecture, daemon: &Path, component: &Path, form: &Path) -> Result<()> {
    let made = form.with_extension("new");
    let mut command = started(architecture, daemon)?;
    output(command.args(["plugin", "compile"]).arg(component).arg(&made))?;
    let bytes = std::fs::read(&made).with_context(|| made.display().to_string())?;
    std::fs::remove_file(&made)?;
    plugins::write_if_changed(form, &bytes)
}

/// A program of an architecture, by QEMU if it is another one than this machine's.
fn started(architecture: Architecture, program: &Path) -> Result<Command> {
    if architecture == Architecture::native()? {
        return Ok(Command::new(program));
    }
    let name = format!("qemu-{}-static", architecture.machine());
    let emulator = if let Some(emulator) = setup::program(&name) {
        emulator
    } else {
        let place = format!("usr/bin/{name}");
        setup::unpacked("qemu-user", &["qemu-user-static"], |root| root.join(&place).is_file())
            .with_context(|| format!("plugins are compiled with the daemon itself, which takes {name} here"))?
            .join(place)
    };
    let mut command = Command::new(emulator);
    command.arg(program);
    Ok(command)
}

/// The settings of a static build, in which no path of this machine is left.
fn for_target<'a>(command: &'a mut Command, triple: &str) -> Result<&'a mut Command> {
    let name = triple.replace('-', "_");
    let upper = name.to_uppercase();
    Ok(command
        .args(["--target", triple])
        .env(format!("CC_{name}"), "clang")
        .env(format!("CARGO_TARGET_{upper}_LINKER"), "rust-lld")
        .env(format!("CARGO_TARGET_{upper}_RUSTFLAGS"), without_paths()?)
        // They would be taken instead of these.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS"))
}

fn has_target(triple: &str) -> Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = output(Command::new(rustc).args(["--print", "sysroot"]).current_dir(root()))?;
    if Path::new(&sysroot).join("lib/rustlib").join(triple).is_dir() {
        return Ok(());
    }
    eprintln!("setup: adding the target {triple} with rustup");
    let mut add = Command::new("rustup");
    ensure!(
        succeeds(add.args(["target", "add", triple]).current_dir(root())),
        "static programs need a compiler for them: run `rustup target add {triple}`"
    );
    Ok(())
}

/// The crates that are linked into our programs and into the plugins.
pub fn crates(architecture: Architecture) -> Result<Vec<Crate>> {
    let plugins = plugin_crates().into_iter().map(|name| format!("flannel-plugin-{name}"));
    let triple = architecture.target();
    let mut all = tree(&triple, ["flanneld", "flannel-cni"].map(ToOwned::to_owned).into_iter())?;
    all.push('\n');
    all.push_str(&tree("wasm32-unknown-unknown", plugins)?);
    Ok(sbom::crates(&all, &root().display().to_string()))
}

fn tree(triple: &str, packages: impl Iterator<Item = String>) -> Result<String> {
    let mut command = cargo(&["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none"]);
    command.args(["--no-dedupe", "--format", "{p}|{l}", "--target", triple]);
    for package in packages {
        command.args(["--package", &package]);
    }
    output(&mut command)
}
