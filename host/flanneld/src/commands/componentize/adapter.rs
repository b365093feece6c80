//! The adapter from the first WASI to that of components: wasmtime's, with a wall clock that stands still together with its monotonic one,
//! and no waits meanwhile.
//!
//! The component model forbids calls of imports in `cabi_realloc`. Go collects garbage there, and looks at both clocks meanwhile. For that
//! wasmtime's adapter has `adapter_monotonic_clock_set_paused`: until it is called again, the monotonic clock answers with what it has
//! answered last. Its wall clock goes on asking the host, which is a trap. So is a look whether something has come to wait for
//! (`poll_oneoff`), which Go's scheduler takes whenever one goroutine of the collector's hands over to another one. So these functions are exported
//! anew here, with a wrapper of ours in front; what is waited for has not come while the clocks stand still.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow};
use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;
use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection, GlobalSection,
    GlobalType, InstructionSink, MemArg, Module, ValType,
};
use wasmparser::{ExternalKind, Parser, Payload, TypeRef};

/// `clock_time_get(clock, precision, where) -> errno`
const TIME: &str = "clock_time_get";
/// `adapter_monotonic_clock_set_paused(paused)`
const PAUSE: &str = "adapter_monotonic_clock_set_paused";
/// `poll_oneoff(subscriptions, events, count, where) -> errno`
const POLL: &str = "poll_oneoff";
/// The number of the wall clock.
const REALTIME: i32 = 0;

/// The adapter.
pub(super) fn reactor() -> Result<Vec<u8>> {
    with_wrappers(WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)
}

fn with_wrappers(adapter: &[u8]) -> Result<Vec<u8>> {
    let mut wrappers = Wrappers::around(adapter)?;
    let mut module = Module::new();
    wrappers
        .parse_core_module(&mut module, Parser::new(0), adapter)
        .map_err(|error| anyhow!("the adapter: {error}"))?;
    Ok(module.finish())
}

/// A function of the adapter's.
#[derive(Clone, Copy)]
struct Wrapped {
    index: u32,
    ty: u32,
}

/// What is added to the adapter: behind all that is there, so that nothing gets another number.
struct Wrappers {
    time: Wrapped,
    pause: Wrapped,
    poll: Wrapped,
    /// How many functions there are, and how many globals.
    functions: u32,
    globals: u32,
}

impl Wrappers {
    fn around(adapter: &[u8]) -> Result<Self> {
        let (mut types, mut globals, mut exports) = (Vec::new(), 0, HashMap::new());
        for payload in Parser::new(0).parse_all(adapter) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import?.ty {
                            TypeRef::Func(ty) => types.push(ty),
                            TypeRef::Global(_) => globals += 1,
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    for ty in section {
                        types.push(ty?);
                    }
                }
                Payload::GlobalSection(section) => globals += section.count(),
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        if export.kind == ExternalKind::Func {
                            exports.insert(export.name, export.index);
                        }
                    }
                }
                _ => {}
            }
        }
        let wrapped = |name: &str| -> Result<Wrapped> {
            let index = *exports.get(name).with_context(|| format!("the adapter has no {name}"))?;
            let ty = *types.get(index as usize).context("the adapter exports a function that it has not")?;
            Ok(Wrapped { index, ty })
        };
        let functions = u32::try_from(types.len()).context("the adapter's functions")?;
        Ok(Self { time: wrapped(TIME)?, pause: wrapped(PAUSE)?, poll: wrapped(POLL)?, functions, globals })
    }

    fn paused(&self) -> u32 {
        self.globals
    }

    fn wall(&self) -> u32 {
        self.globals + 1
    }

    fn time(&self) -> Function {
        const RESULT: u32 = 3;
        let place = MemArg { offset: 0, align: 3, memory_index: 0 };
        body([(1, ValType::I32)], |code| {
            code.global_get(self.paused()).local_get(0).i32_const(REALTIME).i32_eq().i32_and();
            code.if_(BlockType::Empty);
            code.local_get(2).global_get(self.wall()).i64_store(place).i32_const(0).return_();
            code.end();
            code.local_get(0).local_get(1).local_get(2).call(self.time.index).local_set(RESULT);
            code.local_get(0).i32_const(REALTIME).i32_eq();
            code.if_(BlockType::Empty);
            code.local_get(2).i64_load(place).global_set(self.wall());
            code.end();
            code.local_get(RESULT);
        })
    }

    /// No event, and no error: Go's scheduler goes on, and Go's `usleep` has slept.
    fn poll(&self) -> Function {
        let place = MemArg { offset: 0, align: 2, memory_index: 0 };
        body([], |code| {
            code.global_get(self.paused());
            code.if_(BlockType::Empty);
            code.local_get(3).i32_const(0).i32_store(place).i32_const(0).return_();
            code.end();
            code.local_get(0).local_get(1).local_get(2).local_get(3).call(self.poll.index);
        })
    }

    fn pause(&self) -> Function {
        body([], |code| {
            code.local_get(0).i32_const(0).i32_ne().global_set(self.paused());
            code.local_get(0).call(self.pause.index);
        })
    }
}

fn body<const N: usize>(locals: [(u32, ValType); N], write: impl FnOnce(&mut InstructionSink)) -> Function {
    let mut function = Function::new(locals);
    let mut code = function.instructions();
    write(&mut code);
    code.end();
    function
}

impl Reencode for Wrappers {
    type Error = std::convert::Infallible;

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), reencode::Error> {
        utils::parse_function_section(self, functions, section)?;
        functions.function(self.time.ty).function(self.pause.ty).function(self.poll.ty);
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Result<(), reencode::Error> {
        utils::parse_global_section(self, globals, section)?;
        let mutable = |val_type| GlobalType { val_type, mutable: true, shared: false };
        globals.global(mutable(ValType::I32), &ConstExpr::i32_const(0));
        globals.global(mutable(ValType::I64), &ConstExpr::i64_const(0));
        Ok(())
    }

    fn parse_export(
        &mut self,
        exports: &mut ExportSection,
        export: wasmparser::Export<'_>,
    ) -> Result<(), reencode::Error> {
        match export.name {
            TIME => exports.export(TIME, ExportKind::Func, self.functions),
            PAUSE => exports.export(PAUSE, ExportKind::Func, self.functions + 1),
            POLL => exports.export(POLL, ExportKind::Func, self.functions + 2),
            _ => return utils::parse_export(self, exports, export),
        };
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), reencode::Error> {
        utils::parse_code_section(self, code, section)?;
        code.function(&self.time()).function(&self.pause()).function(&self.poll());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exports(module: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            if let Payload::ExportSection(section) = payload.expect("a module") {
                names.extend(section.into_iter().map(|export| export.expect("an export").name.to_owned()));
            }
        }
        names
    }

    #[test]
    fn the_adapter_has_three_functions_more_and_exports_what_it_did() {
        let (before, after) = (WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER, reactor().expect("an adapter"));
        assert_eq!(exports(&after), exports(before));
        let (before, wrapped) =
            (Wrappers::around(before).expect("one"), Wrappers::around(&after).expect("one"));
        assert_eq!(wrapped.functions, before.functions + 3);
        let wrappers =
            [wrapped.time, wrapped.pause, wrapped.poll].map(|wrapped| wrapped.index - before.functions);
        assert_eq!(wrappers, [0, 1, 2]);
    }
}
