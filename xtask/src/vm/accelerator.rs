//! KVM or emulation. That `/dev/kvm` is there does not say that a guest gets up with it: inside of some virtual machines it does not.

use std::fs::File;
use std::path::Path;

use anyhow::Result;

use super::machine::Machine;
use crate::cargo::target;

/// QEMU's emulation.
pub const TCG: &str = "tcg,thread=multi";
/// The host's processor.
const KVM: &str = "kvm";

/// The better one that works, found out by starting a guest: once, until this machine's next start.
pub fn choose(machine: &Machine) -> Result<&'static str> {
    if File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(TCG);
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let file = target().join("vm/kvm");
    let told = |word: &str| format!("{word} {boot}");
    let known = read(&file);
    if known == told("works") {
        return Ok(KVM);
    }
    if known == told("fails") {
        return Ok(TCG);
    }
    let works = machine.gets_up(KVM)?;
    if !works {
        eprintln!(
            "vm: there is /dev/kvm, and no guest gets up with it: everything is emulated, which is slow"
        );
    }
    std::fs::write(file, told(if works { "works" } else { "fails" }))?;
    Ok(if works { KVM } else { TCG })
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}
