//! May this process make network namespaces? If not, a user namespace may be what it takes.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// What to do without the privileges; the end of a sentence.
pub const ADVICE: &str = "run as root or under `unshare --user --map-root-user --net --mount`";

/// Set in the process that runs in the user namespace, so that a failure there is not tried again for ever.
const MARK: &str = "FLANNEL_LAB_USER_NAMESPACE";

/// Whether this process may do what the lab does: change networks (`CAP_NET_ADMIN`) and make namespaces (`CAP_SYS_ADMIN`).
pub fn sufficient() -> bool {
    const NEEDED: u64 = 1 << 12 | 1 << 21;
    effective_capabilities().is_some_and(|held| held & NEEDED == NEEDED)
}

/// Whether this process runs in a user namespace that [`ensure`] made.
pub fn in_user_namespace() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Makes sure of the privileges: with them returns; without them starts this program again, with the same arguments, in a
/// user namespace, and does not return. An error, one line, if the system does not allow that either.
pub fn ensure() -> Result<()> {
    if sufficient() {
        return Ok(());
    }
    if in_user_namespace() {
        bail!("not even in a user namespace may this process make networks: run as root");
    }
    if !allowed() {
        bail!(
            "making networks takes root, and this system does not allow unprivileged user namespaces: {ADVICE}"
        );
    }
    let error =
        unshare().arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(MARK, "1").exec();
    bail!("cannot start again in a user namespace: {error}; {ADVICE}");
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--mount", "--"]);
    command
}

/// Whether a process in a user namespace could make a bridge.
fn allowed() -> bool {
    unshare()
        .args(["ip", "link", "add", "name", "lab0", "type", "bridge"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn effective_capabilities() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}
