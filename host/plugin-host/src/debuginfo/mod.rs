//! From a place in a component's code to source lines, by the DWARF that the component carries, if it carries any.
//!
//! The tables come from strangers and are read in the daemon's own process, so that a reader that trusts them is out of the question:
//! the usual ones follow nested scopes by recursion, and multiply lists with each other. This one goes through them once, needs no
//! stack for their depth, and gives up when it takes long. They are looked into when something has trapped, and not before.

mod search;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use gimli::{DwarfSections, EndianSlice, LittleEndian, SectionId};
use wasmparser::{BinaryReaderError, Chunk, Parser, Payload};

use search::Search;

/// Bytes of tables that are kept. Whoever brings more has no lines: an optimised plugin in Rust has about a megabyte.
const MAX_TABLE_BYTES: usize = 16 << 20;
/// Parts of a path that are shown.
const PARTS: usize = 3;

/// A function that is at work at a place in the code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    /// The function, as the linker knows it, if it is said.
    pub function: Option<String>,
    /// Where in it, if that is known.
    pub place: Option<Place>,
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The end of the file's path: enough to find it, and nothing of the machine that it was compiled on.
    pub file: String,
    /// The line; none: no line of the source is behind it.
    pub line: Option<u64>,
    /// The file is part of Rust's own library.
    pub library: bool,
}

impl Place {
    /// `directory` is relative to where the compiler was run, or absolute.
    fn new(directory: &str, name: &str, line: u64) -> Self {
        let path = if name.starts_with('/') { name.to_owned() } else { format!("{directory}/{name}") };
        let parts: Vec<&str> =
            path.split(['/', '\\']).filter(|part| !part.is_empty() && *part != ".").collect();
        Self {
            file: parts[parts.len().saturating_sub(PARTS)..].join("/"),
            line: (line != 0).then_some(line),
            // As Rust's releases have it, whatever machine they are on.
            library: path.starts_with("/rustc/"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// The tables of a component's modules.
#[derive(Default)]
pub(crate) struct Lines {
    modules: Vec<Module>,
}

/// A module's tables, and where in the component its code is, which is what their addresses count from.
struct Module {
    code: Range<usize>,
    tables: DwarfSections<Vec<u8>>,
}

impl Lines {
    /// Takes the tables out of a component. One without any costs a walk over its sections.
    pub(crate) fn of(component: &[u8]) -> Self {
        // Whoever compiles it says what is wrong with it.
        let modules = modules(component).unwrap_or_default();
        let all = modules.iter().flat_map(|module| &module.tables);
        if all.map(|(_, data)| data.len()).sum::<usize>() > MAX_TABLE_BYTES {
            return Self::default();
        }
        Self { modules: modules.into_iter().map(|sections| Module::of(&sections)).collect() }
    }

    /// What is at a place in the component: the innermost function first, then those that it is inlined into. Empty if that is not
    /// known.
    pub(crate) fn at(&self, offset: usize) -> Vec<Spot> {
        let Some(module) = self.modules.iter().find(|module| module.code.contains(&offset)) else {
            return Vec::new();
        };
        let tables = module.tables.borrow(|bytes| EndianSlice::new(bytes, LittleEndian));
        Search::new(&tables, (offset - module.code.start) as u64).spots().unwrap_or_default()
    }
}

/// The modules with line tables in a component, however deep in it.
fn modules(component: &[u8]) -> Result<Vec<Sections<'_>>, BinaryReaderError> {
    let (mut found, mut outer) = (Vec::new(), Vec::new());
    let (mut parser, mut sections, mut rest) = (Parser::new(0), Sections::default(), component);
    loop {
        let Chunk::Parsed { consumed, payload } = parser.parse(rest, true)? else { return Ok(found) };
        rest = rest.get(consumed..).unwrap_or_default();
        match payload {
            Payload::CodeSectionStart { range, size, .. } => {
                rest = rest.get(size as usize..).unwrap_or_default();
                parser.skip_section();
                sections.code = range;
            }
            Payload::CustomSection(section) if section.name().starts_with(".debug_") => {
                sections.tables.push((section.name(), section.data()));
            }
            Payload::ModuleSection { parser: inner, .. }
            | Payload::ComponentSection { parser: inner, .. } => {
                outer.push((std::mem::replace(&mut parser, inner), std::mem::take(&mut sections)));
            }
            Payload::End(_) => {
                found.extend(sections.finish());
                let Some(next) = outer.pop() else { return Ok(found) };
                (parser, sections) = next;
            }
            _ => {}
        }
    }
}

/// What has been seen of a module so far.
#[derive(Default)]
struct Sections<'a> {
    code: Range<usize>,
    tables: Vec<(&'a str, &'a [u8])>,
}

impl Sections<'_> {
    fn finish(self) -> Option<Self> {
        (!self.code.is_empty() && self.tables.iter().any(|(name, _)| *name == SectionId::DebugLine.name()))
            .then_some(self)
    }
}

impl Module {
    fn of(sections: &Sections<'_>) -> Self {
        let table = |id: SectionId| -> Result<Vec<u8>, std::convert::Infallible> {
            let found = sections.tables.iter().find(|(name, _)| *name == id.name());
            Ok(found.map(|(_, data)| data.to_vec()).unwrap_or_default())
        };
        let Ok(tables) = DwarfSections::load(table);
        Self { code: sections.code.clone(), tables }
    }
}
