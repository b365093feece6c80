//! What instances consist of, and what the process pays for them.

use wasmparser::{BinaryReaderError, ElementItems, Payload, TypeRef};

/// Bytes that the host keeps for an instance of a module, whatever is in it, and of a component. This and what follows are the sizes of
/// wasmtime's records, which `measured` compares with what is taken.
const INSTANCE: u64 = 200;
const COMPONENT_INSTANCE: u64 = 48;
/// Bytes of a global of an instance: those that are imported are pointers with two words more.
const GLOBAL: u64 = 16;
const IMPORTED: u64 = 24;
/// Bytes of a function that the instance can hand out, and of one that it imports.
const FUNCTION: u64 = 32;
/// Bytes of a table or memory, besides what is in it.
const TABLE: u64 = 64;
const MEMORY: u64 = 4 << 10;
/// Bytes of an element of a table: a pointer, and for references to anything but functions no more.
pub(crate) const TABLE_ELEMENT: usize = 8;
/// Bytes of a function between the component model and a module, lifted or lowered.
const CANONICAL: u64 = 32;

/// What there is of everything, each instance counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inventory {
    /// Instances of modules and of components.
    pub instances: u64,
    /// Linear memories.
    pub memories: u64,
    /// Bytes of memories as they begin.
    pub memory: u64,
    /// Tables.
    pub tables: u64,
    /// Elements of tables as they begin.
    pub elements: u64,
    /// Globals.
    pub globals: u64,
    /// Functions that are lifted, lowered, or built into the component model.
    pub canonicals: u64,
    /// Bytes of the host's own records of all this; what is in memories and tables is not among them.
    pub records: u64,
}

impl Inventory {
    /// Both together.
    pub(super) fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.instances, other.instances),
            (&mut self.memories, other.memories),
            (&mut self.memory, other.memory),
            (&mut self.tables, other.tables),
            (&mut self.elements, other.elements),
            (&mut self.globals, other.globals),
            (&mut self.canonicals, other.canonicals),
            (&mut self.records, other.records),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
    }

    /// One more instance of a component.
    pub(super) fn add_component_instance(&mut self) {
        self.instances = self.instances.saturating_add(1);
        self.records = self.records.saturating_add(COMPONENT_INSTANCE);
    }

    /// Functions between the component and what surrounds it.
    pub(super) fn add_canonicals(&mut self, count: u32) {
        self.canonicals = self.canonicals.saturating_add(count.into());
        self.records = self.records.saturating_add(u64::from(count) * CANONICAL);
    }

    /// What the process pays before anything runs.
    pub(crate) fn bytes(&self) -> u64 {
        self.memory
            .saturating_add(self.elements.saturating_mul(TABLE_ELEMENT as u64))
            .saturating_add(self.records)
    }

    /// The first thing of which there is more than there may be.
    pub(super) fn excess(&self, limit: &Self) -> Option<Excess> {
        let of = |what, have, limit| (have > limit).then_some(Excess { what, have, limit });
        of("instances of modules and components", self.instances, limit.instances)
            .or_else(|| of("memories", self.memories, limit.memories))
            .or_else(|| of("tables", self.tables, limit.tables))
            .or_else(|| of("elements of tables", self.elements, limit.elements))
            .or_else(|| of("globals", self.globals, limit.globals))
            .or_else(|| of("lifted and lowered functions", self.canonicals, limit.canonicals))
            .or_else(|| of("bytes in memories, tables and records", self.bytes(), limit.memory))
    }
}

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has {have} {what} before it has done anything; a plugin may have {limit}")]
pub struct Excess {
    /// Of what.
    pub(super) what: &'static str,
    /// How much.
    pub(super) have: u64,
    /// How much there may be.
    pub(super) limit: u64,
}

/// A module, as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct Module {
    inventory: Inventory,
    functions: u64,
    /// Functions that are exported or stand in a table.
    handed_out: u64,
}

impl Module {
    /// What an instance of it consists of.
    pub(super) fn inventory(self) -> Inventory {
        let mut inventory = self.inventory;
        inventory.instances = inventory.instances.saturating_add(1);
        inventory.records = inventory
            .records
            .saturating_add(INSTANCE)
            .saturating_add(self.handed_out.min(self.functions) * FUNCTION)
            .saturating_add(inventory.globals.saturating_mul(GLOBAL))
            .saturating_add(inventory.tables.saturating_mul(TABLE))
            .saturating_add(inventory.memories.saturating_mul(MEMORY));
        inventory
    }

    /// A section of it.
    pub(super) fn section(&mut self, payload: Payload<'_>) -> Result<(), BinaryReaderError> {
        let inventory = &mut self.inventory;
        match payload {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    inventory.records += match import?.ty {
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => {
                            self.functions += 1;
                            FUNCTION
                        }
                        _ => IMPORTED,
                    };
                }
            }
            Payload::FunctionSection(section) => self.functions += u64::from(section.count()),
            Payload::TableSection(section) => {
                for table in section {
                    inventory.tables += 1;
                    inventory.elements = inventory.elements.saturating_add(table?.ty.initial);
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory?;
                    let page = 1_u64 << memory.page_size_log2.unwrap_or(16).min(16);
                    inventory.memories += 1;
                    inventory.memory = inventory.memory.saturating_add(memory.initial.saturating_mul(page));
                }
            }
            Payload::GlobalSection(section) => inventory.globals += u64::from(section.count()),
            Payload::ExportSection(section) => self.handed_out += u64::from(section.count()),
            Payload::ElementSection(section) => {
                for element in section {
                    self.handed_out += u64::from(match element?.items {
                        ElementItems::Functions(items) => items.count(),
                        ElementItems::Expressions(_, items) => items.count(),
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }
}
