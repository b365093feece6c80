//! The search for one address in a module's tables.

use std::cell::Cell;
use std::time::{Duration, Instant};

use gimli::{
    AttributeValue, DW_AT_abstract_origin, DW_AT_call_file, DW_AT_call_line, DW_AT_linkage_name, DW_AT_name,
    DW_AT_specification, DW_TAG_inlined_subroutine, DW_TAG_subprogram, DebugInfoOffset,
    DebuggingInformationEntry, Dwarf, EndianSlice, LittleEndian, Unit, UnitOffset, UnitRef,
};

use super::{Place, Spot};

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// How long a search may take. With the tables of a plugin in Rust it takes a few milliseconds.
const SEARCH_TIMEOUT: Duration = Duration::from_millis(250);
/// Steps between two looks at the clock.
const STEPS: u32 = 256;
/// Functions inlined into each other that are followed.
const DEPTH: usize = 64;
/// References from one description of a function to the next.
const HOPS: u32 = 8;
/// Bytes of a name or a path.
const TEXT: usize = 1024;

/// A search. Its functions answer `None` when the tables are malformed or take too long.
pub(super) struct Search<'a> {
    tables: &'a Dwarf<Slice<'a>>,
    address: u64,
    until: Instant,
    steps: Cell<u32>,
}

/// A function around the address, or one that is inlined there, and where that was.
struct Scope {
    entry: UnitOffset,
    called_at: Option<Place>,
}

impl<'a> Search<'a> {
    /// Begins to search an address.
    pub(super) fn new(tables: &'a Dwarf<Slice<'a>>, address: u64) -> Self {
        Self { tables, address, until: Instant::now() + SEARCH_TIMEOUT, steps: Cell::new(0) }
    }

    /// What is there, innermost first.
    pub(super) fn spots(&self) -> Option<Vec<Spot>> {
        let mut headers = self.tables.units();
        while let Some(header) = headers.next().ok()? {
            self.in_time()?;
            let unit = self.tables.unit(header).ok()?;
            let unit = unit.unit_ref(self.tables);
            if !self.covers(&unit)? {
                continue;
            }
            if let Some(place) = self.line(&unit)? {
                return self.stack(&unit, place);
            }
        }
        Some(Vec::new())
    }

    fn in_time(&self) -> Option<()> {
        (Instant::now() < self.until).then_some(())
    }

    fn step(&self) -> Option<()> {
        self.steps.set(self.steps.get().wrapping_add(1));
        if self.steps.get().is_multiple_of(STEPS) { self.in_time() } else { Some(()) }
    }

    /// Whether the address may be the unit's; one that does not say may have it.
    fn covers(&self, unit: &UnitRef<Slice<'a>>) -> Option<bool> {
        let (mut ranges, mut silent) = (unit.unit_ranges().ok()?, true);
        while let Some(range) = ranges.next().ok()? {
            self.step()?;
            silent = false;
            if (range.begin..range.end).contains(&self.address) {
                return Some(true);
            }
        }
        Some(silent)
    }

    fn contains(
        &self,
        unit: &UnitRef<Slice<'a>>,
        entry: &DebuggingInformationEntry<Slice<'a>>,
    ) -> Option<bool> {
        let mut ranges = unit.die_ranges(entry).ok()?;
        while let Some(range) = ranges.next().ok()? {
            self.step()?;
            if (range.begin..range.end).contains(&self.address) {
                return Some(true);
            }
        }
        Some(false)
    }

    /// File and line in the unit's table; the inner `None`: the table has not the address, or no line for it.
    #[allow(clippy::option_option, reason = "the outer one ends the search")]
    fn line(&self, unit: &UnitRef<Slice<'a>>) -> Option<Option<Option<Place>>> {
        let Some(program) = unit.line_program.clone() else { return Some(None) };
        let (mut rows, mut before) = (program.rows(), None);
        while let Some((_, row)) = rows.next_row().ok()? {
            self.step()?;
            if let Some((begin, file, line)) = before
                && (begin..row.address()).contains(&self.address)
            {
                return Some(Some(place(unit, file, line)));
            }
            before = (!row.end_sequence())
                .then(|| (row.address(), row.file_index(), row.line().map_or(0, u64::from)));
        }
        Some(None)
    }

    /// The functions around the address, of which the innermost is at `place`.
    fn stack(&self, unit: &UnitRef<Slice<'a>>, mut place: Option<Place>) -> Option<Vec<Spot>> {
        let mut spots = Vec::new();
        for scope in self.scopes(unit)?.into_iter().rev() {
            let function = self.name(unit, scope.entry, HOPS);
            spots.push(Spot { function, place: std::mem::replace(&mut place, scope.called_at) });
        }
        if spots.is_empty() {
            spots.push(Spot { function: None, place });
        }
        Some(spots)
    }

    /// The same, outermost first, without names.
    fn scopes(&self, unit: &UnitRef<Slice<'a>>) -> Option<Vec<Scope>> {
        let (mut scopes, mut outermost) = (Vec::new(), None);
        let mut entries = unit.entries_raw(None).ok()?;
        let mut entry = DebuggingInformationEntry::null();
        while !entries.is_empty() {
            self.step()?;
            if outermost.is_some_and(|depth| entries.next_depth() <= depth) {
                break;
            }
            if !entries.read_entry(&mut entry).ok()? {
                continue;
            }
            let inlined = entry.tag() == DW_TAG_inlined_subroutine && outermost.is_some();
            if !(inlined || entry.tag() == DW_TAG_subprogram) || !self.contains(unit, &entry)? {
                continue;
            }
            if !inlined {
                scopes.clear();
                outermost = Some(entry.depth());
            }
            let called_at = || {
                let Some(AttributeValue::FileIndex(file)) = entry.attr_value(DW_AT_call_file) else {
                    return None;
                };
                place(unit, file, entry.attr_value(DW_AT_call_line)?.udata_value()?)
            };
            scopes.push(Scope { entry: entry.offset(), called_at: inlined.then(called_at).flatten() });
            if scopes.len() > DEPTH {
                return None;
            }
        }
        Some(scopes)
    }

    /// A function's name: the linker's, which has the path in it, if it is there.
    fn name(&self, unit: &UnitRef<Slice<'a>>, offset: UnitOffset, hops: u32) -> Option<String> {
        let hops = hops.checked_sub(1)?;
        let entry = unit.entry(offset).ok()?;
        if let Some(name) = entry.attr_value(DW_AT_linkage_name) {
            return text(unit, name);
        }
        let elsewhere = [DW_AT_abstract_origin, DW_AT_specification]
            .into_iter()
            .filter_map(|reference| entry.attr_value(reference))
            .find_map(|reference| match reference {
                AttributeValue::UnitRef(offset) => self.name(unit, offset, hops),
                AttributeValue::DebugInfoRef(offset) => {
                    let other = self.unit_of(offset)?;
                    let offset = offset.to_unit_offset(&other.header)?;
                    self.name(&other.unit_ref(self.tables), offset, hops)
                }
                _ => None,
            });
        elsewhere.or_else(|| text(unit, entry.attr_value(DW_AT_name)?))
    }

    fn unit_of(&self, offset: DebugInfoOffset) -> Option<Unit<Slice<'a>>> {
        let mut headers = self.tables.units();
        while let Some(header) = headers.next().ok()? {
            self.step()?;
            if offset.to_unit_offset(&header).is_some() {
                self.in_time()?;
                return self.tables.unit(header).ok();
            }
        }
        None
    }
}

fn place(unit: &UnitRef<Slice>, file: u64, line: u64) -> Option<Place> {
    let header = unit.line_program.as_ref()?.header();
    let file = header.file(file)?;
    // The first is where the compiler was run.
    let directory = (file.directory_index() != 0).then(|| file.directory(header)).flatten();
    let directory = directory.map_or(Some(String::new()), |directory| text(unit, directory))?;
    Some(Place::new(&directory, &text(unit, file.path_name())?, line))
}

fn text<'a>(unit: &UnitRef<Slice<'a>>, value: AttributeValue<Slice<'a>>) -> Option<String> {
    let bytes = unit.attr_string(value).ok()?.slice();
    Some(String::from_utf8_lossy(bytes.get(..TEXT).unwrap_or(bytes)).into_owned())
}
