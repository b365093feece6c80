//! `cargo xtask vm`: another kernel, in a virtual machine, with this machine's own root file system.
//!
//! | module | job |
//! |---|---|
//! | [`kernel`] | Debian's kernels, unpacked below `target/`, and the modules that a guest needs before it has a root |
//! | [`initramfs`] | the archive that a guest starts from: busybox, those modules, and two scripts |
//! | [`host_tools`] | QEMU, virtiofsd, busybox and kmod: found, or installed |
//! | [`root`] | this machine's root file system, shared read-only |
//! | [`accelerator`] | KVM where a guest gets up with it, emulation elsewhere |
//! | [`machine`] | QEMU, started and followed to its end |

mod accelerator;
mod host_tools;
mod initramfs;
mod kernel;
mod machine;
mod root;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};

use accelerator::Accelerator;
pub use host_tools::busybox;
pub use kernel::Version;
use machine::Machine;

use crate::cargo::target;

/// More guests at once would have little memory each.
const MOST_GUESTS: usize = 4;

/// What is to run where.
#[derive(clap::Args)]
pub struct Options {
    /// Whose kernel: Debian's 6.1 or 6.12 (or another series of which there is a cloud kernel), or `host`: this machine's own
    #[arg(long, default_value = "6.12", value_name = "VERSION|host")]
    kernel: Version,
    /// The guest's memory in MiB [default: half of this machine's, at most 8192]
    #[arg(long, value_parser = clap::value_parser!(u32).range(512..))]
    memory: Option<u32>,
    /// The command, and its arguments: runs as root, with this directory and environment; what it writes vanishes with the guest
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Runs the command in a guest, shows what it prints as it comes, and ends as it does.
pub fn run(options: &Options) -> Result<ExitCode> {
    let ready = prepare(&options.kernel)?;
    let guest = Guest { memory: options.memory, ..Guest::new(options.command.clone()) };
    let status = ready.run(&guest)?;
    Ok(ExitCode::from(status))
}

/// What a guest is to do.
pub struct Guest {
    /// The command, and its arguments.
    pub command: Vec<OsString>,
    /// Variables besides this process's own.
    pub environment: Vec<(OsString, OsString)>,
    /// MiB; none: half of this machine's, at most 8192.
    pub memory: Option<u32>,
    /// A file that the command may write to in the guest, at `$FLANNELD_VM_RESULT`, and where that is put here; none: there is none.
    pub result: Option<PathBuf>,
}

impl Guest {
    /// A guest that runs a command.
    pub fn new(command: Vec<OsString>) -> Self {
        Self { command, environment: Vec::new(), memory: None, result: None }
    }
}

/// Everything that a guest of a kernel needs is there.
pub struct Ready {
    machine: Machine,
}

/// Why there can be no guests here, before anything is fetched; none: nothing is known to be in the way.
pub fn hindrance() -> Option<String> {
    let root = rustix::process::geteuid().is_root();
    match std::env::consts::ARCH {
        "x86_64" if root => None,
        "x86_64" => Some("sharing this machine's root file system with a guest takes root".to_owned()),
        other => Some(format!("guests are of x86_64 only, and this machine is {other}")),
    }
}

/// Finds or fetches everything.
pub fn prepare(version: &Version) -> Result<Ready> {
    if let Some(reason) = hindrance() {
        anyhow::bail!("no virtual machine here: {reason}");
    }
    let tools = host_tools::find()?;
    let kernel = kernel::find(version)?;
    let modules = kernel.modules(&["virtio_pci", "virtio_console", "virtiofs", "overlay"])?;
    let base = target().join("vm").join(&kernel.release).with_extension("initramfs");
    initramfs::write(&base, &tools.busybox, &kernel, &modules)?;
    let mut machine = Machine { tools, kernel, initramfs: base, accelerator: Accelerator::Emulation };
    machine.accelerator = accelerator::choose(&machine)?;
    Ok(Ready { machine })
}

impl Ready {
    /// `6.12.117+deb12-cloud-amd64`, as `uname -r` prints it in the guest.
    pub fn release(&self) -> &str {
        &self.machine.kernel.release
    }

    /// Whether instructions are emulated: slow.
    pub fn emulated(&self) -> bool {
        self.machine.accelerator == Accelerator::Emulation
    }

    /// How many guests make good use of this machine at the same time, and how much memory each may then have, in MiB.
    pub fn guests(&self) -> Result<(usize, u32)> {
        let guests = self.machine.accelerator.guests().clamp(1, MOST_GUESTS);
        Ok((guests, machine::default_memory()? / u32::try_from(guests)?))
    }

    /// Runs a command in a new guest. Answers its status.
    pub fn run(&self, guest: &Guest) -> Result<u8> {
        ensure!(!guest.command.is_empty(), "no command for the guest");
        let how = if self.emulated() { "emulated" } else { "with KVM" };
        eprintln!("vm: Linux {}, {how}", self.release());
        self.machine.run(guest)
    }
}
