//! `flanneld plugin componentize`: from a core module to a component, without any other tool.

mod adapter;

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{PackageId, Resolve, WorldId};

/// How the sections begin in which bindings' generators leave what a module's world is.
const METADATA: &str = "component-type";

/// What was asked for.
pub(crate) struct Order {
    /// The module.
    pub(crate) module: PathBuf,
    /// The component to write.
    pub(crate) output: PathBuf,
    /// Where the contract is, for a module that carries no metadata of its own.
    pub(crate) wit: Option<PathBuf>,
    /// The module's world in it.
    pub(crate) world: Option<String>,
    /// Whether the module's WASI of the first kind is turned into that of components.
    pub(crate) adapt: bool,
}

/// What decides how a module is made a component.
#[derive(Default)]
struct Traits {
    has_metadata: bool,
    /// Functions of WASI that are not those of components.
    wasi: Vec<String>,
    is_program: bool,
    is_library: bool,
}

/// Makes it.
pub(crate) fn run(order: &Order) -> anyhow::Result<()> {
    let shown = order.module.display();
    let mut bytes = std::fs::read(&order.module).with_context(|| format!("cannot read {shown}"))?;
    // Behind the magic number: the version, and 1 for components or 0 for modules.
    match bytes.as_slice() {
        [b'\0', b'a', b's', b'm', _, _, 0, 0, ..] => {}
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => bail!("{shown} is a component already"),
        _ => bail!("{shown} is no WebAssembly module"),
    }
    let cannot = |reason: &str| anyhow!("{shown} cannot be made a component: {}", in_one_line(reason));
    let traits = Traits::of(&bytes).map_err(|error| cannot(&error.to_string()))?;
    traits.check(order)?;
    if let Some(wit) = &order.wit {
        let (resolve, world) = world(wit, order.world.as_deref())?;
        embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8)
            .map_err(|error| cannot(&format!("{error:#}")))?;
    }
    let component = encode(&bytes, order.adapt).map_err(|error| cannot(&format!("{error:#}")))?;
    std::fs::write(&order.output, component)
        .with_context(|| format!("cannot write {}", order.output.display()))
}

fn encode(module: &[u8], adapt: bool) -> anyhow::Result<Vec<u8>> {
    let mut encoder = ComponentEncoder::default().validate(true).module(module)?;
    if adapt {
        encoder = encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, &adapter::reactor()?)?;
    }
    encoder.encode()
}

impl Traits {
    fn of(module: &[u8]) -> Result<Self, wasmparser::BinaryReaderError> {
        let mut traits = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::CustomSection(section) => {
                    traits.has_metadata |= section.name().starts_with(METADATA);
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import?;
                        if import.module == WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME {
                            traits.wasi.push(import.name.to_owned());
                        }
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        match export?.name {
                            "_start" => traits.is_program = true,
                            "_initialize" => traits.is_library = true,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(traits)
    }

    /// Whether the order has all that the module needs. The errors say what is missing.
    fn check(&self, order: &Order) -> anyhow::Result<()> {
        let shown = order.module.display();
        ensure!(
            !self.is_program || self.is_library,
            "{shown} is a program: it exports _start, which nothing would call; a plugin is a library: build it with `-buildmode=c-shared` \
             (Go), `-mexec-model=reactor` (wasi-sdk), `-fno-entry` (Zig) or `--no-entry` (wasm-ld)"
        );
        match (&order.wit, self.has_metadata) {
            (None, false) => bail!(
                "{shown} does not say what its world is: it has no {METADATA} section; name the contract that its bindings were made of: \
                 --wit DIR --world NAME"
            ),
            (Some(wit), true) => bail!(
                "{shown} says itself what its world is: it has a {METADATA} section; leave out --wit {}",
                wit.display()
            ),
            _ => {}
        }
        if let Some(first) = self.wasi.first().filter(|_| !order.adapt) {
            let more = match self.wasi.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            bail!(
                "{shown} imports {WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME}: {first}{more}; components have another WASI: --adapt puts an adapter \
                 between them"
            );
        }
        Ok(())
    }
}

/// The world of that name in a directory (with `deps/` for other packages) or a file; without a name the only one.
fn world(wit: &Path, name: Option<&str>) -> anyhow::Result<(Resolve, WorldId)> {
    let shown = wit.display();
    ensure!(wit.exists(), "--wit {shown} is not there; it is the directory with the contract's .wit files");
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_path(wit)
        .map_err(|error| anyhow!("--wit {shown}: {}", in_one_line(&format!("{error:#}"))))?;
    match resolve.select_world(&[package], name) {
        Ok(world) => Ok((resolve, world)),
        Err(_) => bail!("{}", no_such_world(&resolve, package, wit, name)),
    }
}

fn no_such_world(resolve: &Resolve, package: PackageId, wit: &Path, name: Option<&str>) -> String {
    let package = &resolve.packages[package];
    let there: Vec<&str> = package.worlds.keys().map(String::as_str).collect();
    let (shown, there) = (wit.display(), there.join(", "));
    let package = &package.name;
    match name {
        _ if there.is_empty() => format!("--wit {shown}: {package} has no world"),
        Some(name) => format!("--world {name:?} is not in {shown}: the worlds of {package} are {there}"),
        None => format!("--wit {shown} has several worlds; name one of them with --world: {there}"),
    }
}

/// Errors of these libraries have sources with markers below them.
pub(super) fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
