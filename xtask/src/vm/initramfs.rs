//! Archives that the kernel unpacks into its first file system: cpio's format `newc` (`Documentation/driver-api/early-userspace/buffer-format.rst`
//! of Linux). Several of them, one after the other, are as good as one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::kernel::Kernel;

/// The first process, until the root file system is there.
const INIT: &str = include_str!("init.sh");
/// The first process from then on.
const GUEST: &str = include_str!("guest.sh");

const DIRECTORY: u32 = 0o04_0755;
const PROGRAM: u32 = 0o10_0755;
const FILE: u32 = 0o10_0644;

/// An archive.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a directory, whose parent is there already.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY, &[]);
    }

    /// Adds a file that can be run.
    pub fn program(&mut self, path: &str, content: &[u8]) {
        self.entry(path, PROGRAM, content);
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, FILE, content);
    }

    /// The archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        let (size, name) = (content.len(), path.len() + 1);
        // Number, mode, owner, group, links, time, size, four device numbers, length of the name, no checksum.
        let head = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{name:08x}{:08x}",
            self.entries, 0, 0, 0, 0, 0, 0, 0, 0
        );
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Writes the archive that all guests of a kernel start with.
pub fn write(file: &Path, busybox: &Path, kernel: &Kernel, modules: &[PathBuf]) -> Result<()> {
    let mut archive = Archive::default();
    for directory in ["bin", "vm", "vm/modules"] {
        archive.directory(directory);
    }
    archive.program("bin/busybox", &read(busybox)?);
    archive.program("init", INIT.as_bytes());
    archive.program("vm/guest.sh", GUEST.as_bytes());
    let mut order = String::new();
    for module in modules {
        let name = module.file_name().and_then(|name| name.to_str()).context("a module without a name")?;
        archive.file(&format!("vm/modules/{name}"), &read(module)?);
        order += name;
        order.push('\n');
    }
    archive.file("vm/modules/order", order.as_bytes());
    archive.file("vm/modules/from", kernel.modules.to_str().context("a path")?.as_bytes());
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(file, archive.finish()).with_context(|| format!("cannot write {}", file.display()))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
