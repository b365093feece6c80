//! Random components with the exports of a plugin.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use arbitrary::Unstructured;
use flannel_plugin_devkit::{Families, SampleNode};
use flannel_plugin_host::{Compiler, DirState, Limits, Loader, Policy};
use wasm_smith::{Config, Module};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve, WorldId};

/// The contract, and what a module that keeps to it exports and imports.
struct Contract {
    resolve: Resolve,
    world: WorldId,
    shape: Vec<u8>,
}

fn contract() -> &'static Contract {
    static CONTRACT: OnceLock<Contract> = OnceLock::new();
    CONTRACT.get_or_init(|| {
        let mut resolve = Resolve::default();
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
        let (package, _) = resolve.push_dir(place).expect("the contract");
        let world = resolve.select_world(&[package], Some("backend")).expect("a world");
        let shape = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
        Contract { resolve, world, shape }
    })
}

/// A component that is valid, with code of the fuzzer's; none if its bytes do not make one.
pub fn component(bytes: &[u8]) -> Option<Vec<u8>> {
    let Contract { resolve, world, shape } = contract();
    let mut bytes = Unstructured::new(bytes);
    let config = Config {
        exports: Some(shape.clone()),
        available_imports: Some(shape.clone()),
        max_memories: 1,
        max_funcs: 50,
        max_instructions: 500,
        simd_enabled: false,
        threads_enabled: false,
        memory64_enabled: false,
        gc_enabled: false,
        ..Config::default()
    };
    let mut module = Module::new(config, &mut bytes).ok()?.to_bytes();
    embed_component_metadata(&mut module, resolve, *world, StringEncoding::UTF8).ok()?;
    ComponentEncoder::default().module(&module).ok()?.encode().ok()
}

/// Loads and runs it as the daemon would; that it is refused is as good as that it runs.
pub fn run(component: &[u8]) {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("component.wasm");
    std::fs::write(&file, component).expect("written");
    let artifact = match Loader::new(&directory.path().join("cache"), directory.path(), Compiler::Here)
        .load_here(&file)
    {
        Ok(artifact) => artifact,
        Err(error) => return crate::is_one_line(&error.to_string()),
    };
    let environment = SampleNode::own(Families::Dual).environment("{\"Type\":\"random\"}").expect("a config");
    let state = Arc::new(DirState::open(directory.path()));
    if let Ok((mut policy, _)) = Policy::start(&artifact, environment, Limits::default(), state) {
        let _ = policy.tick();
    }
}
