//! What a component is made of, read from its bytes before anything is compiled or run: what it imports and exports, and what an
//! instance of it is going to cost the process besides its code.
//!
//! A component may instantiate the same module, or the same component inside of it, as often as it likes, and what is inside may do so
//! again: a file of some hundred bytes can stand for millions of instances. So they are counted as if they were made, in numbers that
//! stop at their largest value instead of wrapping.

mod inventory;
#[cfg(test)]
mod measured;
mod scope;
#[cfg(test)]
mod tests;

use wasmparser::{BinaryReaderError, Chunk, Encoding, Parser, Payload};

pub use inventory::Excess;
use inventory::Module;
pub(crate) use inventory::{Inventory, TABLE_ELEMENT};
use scope::Scope;

/// Components and modules inside of each other: what wit-component makes has three.
const MAX_DEPTH: usize = 32;

/// Functions of a component: the process keeps a record of each as long as it serves. JavaScript's has 13,000.
const MAX_FUNCTIONS: u64 = 200_000;
/// Types of a component, for the same reason.
const MAX_TYPES: u64 = 100_000;
/// What an instance may consist of.
const MOST: Inventory = Inventory {
    instances: 256,
    memories: 16,
    memory: 128 << 20,
    tables: 64,
    elements: 200_000,
    globals: 20_000,
    canonicals: 4096,
    records: 0,
};

/// Why a component cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutlineError {
    /// It is damaged.
    #[error("{} (at offset {:#x})", .0.message(), .0.offset())]
    Malformed(#[from] BinaryReaderError),
    /// It is nothing that one would write.
    #[error("{0}")]
    Unusual(String),
}

/// What a component is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    /// The names of its imports.
    pub imports: Vec<String>,
    /// The names of its exports.
    pub exports: Vec<String>,
    /// Functions in all of its modules, each once.
    pub functions: u64,
    /// Bytes of these functions.
    pub code: u64,
    /// Types in all of its modules and components, each once.
    pub types: u64,
    /// What an instance of it consists of.
    pub inventory: Inventory,
}

impl Outline {
    /// Reads a component.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, OutlineError> {
        Reader::default().read(bytes)
    }

    /// The first thing of which a component has more than any may have.
    pub(crate) fn excess(&self) -> Option<Excess> {
        let of = |what, have, limit| (have > limit).then_some(Excess { what, have, limit });
        of("functions", self.functions, MAX_FUNCTIONS)
            .or_else(|| of("types", self.types, MAX_TYPES))
            .or_else(|| self.inventory.excess(&MOST))
    }

    /// What a compiler is up against, for an error.
    pub(crate) fn size(&self) -> String {
        format!("{} functions in {} KiB of code", self.functions, self.code.div_ceil(1024))
    }
}

/// What is being read, and what surrounds it.
enum Level {
    Component(Scope),
    Module(Module),
}

#[derive(Default)]
struct Reader {
    outline: Outline,
    levels: Vec<Level>,
}

impl Reader {
    fn read(mut self, mut bytes: &[u8]) -> Result<Outline, OutlineError> {
        let mut parser = Parser::new(0);
        let mut outer = Vec::new();
        loop {
            let Chunk::Parsed { payload, consumed } = parser.parse(bytes, true)? else {
                return Err(OutlineError::Unusual("it ends in the middle".to_owned()));
            };
            bytes = bytes.get(consumed..).unwrap_or_default();
            match payload {
                Payload::CodeSectionStart { size, count, .. } => {
                    self.outline.functions += u64::from(count);
                    self.outline.code += u64::from(size);
                    // What is in the functions is the compiler's business.
                    parser.skip_section();
                    let Some(rest) = bytes.get(size as usize..) else {
                        return Err(OutlineError::Unusual("it ends in the middle of its code".to_owned()));
                    };
                    bytes = rest;
                }
                Payload::ModuleSection { parser: inner, .. }
                | Payload::ComponentSection { parser: inner, .. } => {
                    if outer.len() == MAX_DEPTH {
                        let reason = format!("components inside of each other, {MAX_DEPTH} deep");
                        return Err(OutlineError::Unusual(reason));
                    }
                    outer.push(std::mem::replace(&mut parser, inner));
                }
                Payload::End(_) => {
                    let Some(above) = outer.pop() else { break };
                    self.end_level()?;
                    parser = above;
                }
                payload => self.section(payload)?,
            }
        }
        match self.levels.pop() {
            Some(Level::Component(scope)) => {
                self.outline.inventory = scope.total;
                Ok(self.outline)
            }
            _ => Err(OutlineError::Unusual("it is no component".to_owned())),
        }
    }

    fn end_level(&mut self) -> Result<(), OutlineError> {
        match (self.levels.pop(), self.levels.last_mut()) {
            (Some(Level::Module(module)), Some(Level::Component(scope))) => {
                scope.add_module(module.inventory());
                Ok(())
            }
            (Some(Level::Component(inner)), Some(Level::Component(scope))) => {
                scope.add_component(inner.total);
                Ok(())
            }
            _ => Err(OutlineError::Unusual("something is inside of a module".to_owned())),
        }
    }

    fn section(&mut self, payload: Payload<'_>) -> Result<(), OutlineError> {
        if let Payload::Version { encoding, .. } = payload {
            self.levels.push(match encoding {
                Encoding::Module => Level::Module(Module::default()),
                Encoding::Component => Level::Component(Scope::default()),
            });
            return Ok(());
        }
        self.outline.types += match &payload {
            Payload::TypeSection(section) => u64::from(section.count()),
            Payload::CoreTypeSection(section) => u64::from(section.count()),
            Payload::ComponentTypeSection(section) => u64::from(section.count()),
            _ => 0,
        };
        let outermost = self.levels.len() == 1;
        match (self.levels.split_last_mut(), payload) {
            (Some((Level::Module(module), _)), payload) => Ok(module.section(payload)?),
            (Some((Level::Component(scope), above)), payload) => {
                if outermost {
                    self.outline.name(&payload)?;
                }
                scope.section(payload, above)
            }
            (None, _) => Ok(()),
        }
    }
}

impl Outline {
    /// Takes the names of what the component itself imports and exports.
    fn name(&mut self, payload: &Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    self.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    self.exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }
}
