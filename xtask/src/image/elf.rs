//! What a program or library needs to start: said in its dynamic section (ELF, System V ABI).

use anyhow::{Context, Result};
use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{ElfFile, FileHeader, ProgramHeader};

/// What another file has to be there for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The dynamic loader, by its path.
    pub loader: Option<String>,
    /// Libraries by their names.
    pub libraries: Vec<String>,
}

/// Reads it. A file that is no ELF file needs nothing.
pub fn needs(bytes: &[u8]) -> Result<Needs> {
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(Needs::default());
    }
    let file = ElfFile::<FileHeader64<Endianness>>::parse(bytes)?;
    let endian = file.endian();
    let mut needs = Needs::default();
    for segment in file.elf_header().program_headers(endian, bytes)? {
        if let Some(path) = segment.interpreter(endian, bytes)? {
            needs.loader = Some(text(path)?);
        }
    }
    let table = file.elf_dynamic_table()?;
    for entry in table.iter().filter(|entry| entry.tag == DT_NEEDED) {
        needs.libraries.push(text(table.string(entry)?)?);
    }
    Ok(needs)
}

fn text(bytes: &[u8]) -> Result<String> {
    Ok(std::str::from_utf8(bytes).context("a name that is no UTF-8")?.trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_needs_its_loader_and_its_libraries() -> Result<()> {
        // The test itself is one that is linked to the C library.
        let needs = needs(&std::fs::read(std::env::current_exe()?)?)?;
        assert!(needs.libraries.iter().any(|name| name == "libc.so.6"), "{needs:?}");
        assert!(needs.loader.is_some_and(|path| path.contains("/ld-linux")));
        Ok(())
    }

    #[test]
    fn a_text_needs_nothing_and_half_a_program_is_an_error() -> Result<()> {
        assert_eq!(needs(b"#!/bin/sh\n")?, Needs::default());
        assert!(needs(b"\x7fELF\x02\x01").is_err());
        Ok(())
    }
}
