//! KVM or emulation. That `/dev/kvm` is there does not say that a guest gets up with it: inside of some virtual machines it does not.

use std::fs::File;
use std::path::Path;

use anyhow::Result;

use super::machine::Machine;
use crate::cargo::target;

/// How a guest's instructions are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By this machine's processor.
    Kvm,
    /// By QEMU, in software.
    Emulation,
}

impl Accelerator {
    /// The values of QEMU's `-accel` and `-cpu`.
    pub fn arguments(self) -> [&'static str; 2] {
        match self {
            Self::Kvm => ["kvm", "max"],
            // A small processor is faster to emulate than all that QEMU knows: no fifth level of page tables, no vectors that
            // are computed piece by piece.
            Self::Emulation => ["tcg", "Nehalem"],
        }
    }

    /// Processors of a guest.
    ///
    /// Linux rewrites instructions that other processors may be executing at that moment. QEMU's emulation is not up to that: of ten
    /// guests with two processors one died of it at its start (`Oops: int3`).
    pub fn processors(self) -> usize {
        match self {
            Self::Kvm => host_processors(),
            Self::Emulation => 1,
        }
    }

    /// How many guests make good use of this machine at the same time.
    pub fn guests(self) -> usize {
        host_processors() / self.processors()
    }

    /// What the guest's kernel is told on its command line.
    pub fn boot_parameters(self) -> &'static str {
        match self {
            Self::Kvm => "",
            // With every program at the same address each time, what QEMU has translated of it is of use to the next process:
            // starting `ip` takes half the time, `flanneld --version` a fifth.
            Self::Emulation => "norandmaps",
        }
    }
}

fn host_processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The better one that works, found out by starting a guest: once, until this machine's next start.
pub fn choose(machine: &Machine) -> Result<Accelerator> {
    if File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(Accelerator::Emulation);
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let file = target().join("vm/kvm");
    let told = |word: &str| format!("{word} {boot}");
    let known = read(&file);
    if known == told("works") {
        return Ok(Accelerator::Kvm);
    }
    if known == told("fails") {
        return Ok(Accelerator::Emulation);
    }
    let works = machine.gets_up(Accelerator::Kvm)?;
    if !works {
        eprintln!(
            "vm: there is /dev/kvm, and no guest gets up with it: everything is emulated, which is slow"
        );
    }
    std::fs::write(file, told(if works { "works" } else { "fails" }))?;
    Ok(if works { Accelerator::Kvm } else { Accelerator::Emulation })
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}
