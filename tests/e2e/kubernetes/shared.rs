//! The control plane that tests share which leave others' objects alone: its start takes longer than most of them.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use flannel_lab::control_plane::Mode;

use super::Cluster;

/// So often is looked whether a test has it.
const LOOK: Duration = Duration::from_secs(1);
/// After so many looks at which none had it, it ends: where tests run one by one, the next one comes sooner.
const LOOKS: u32 = 5;

static SHARED: Mutex<Option<Arc<Cluster>>> = Mutex::new(None);

/// The one that runs, or a new one; none: it cannot be had on this machine.
pub fn get() -> Result<Option<Arc<Cluster>>> {
    let mut shared = lock();
    if let Some(running) = shared.as_ref() {
        return Ok(Some(Arc::clone(running)));
    }
    let Some(cluster) = Cluster::start(Mode::Dual, &[])? else { return Ok(None) };
    let janitor = janitor(cluster.lab.directory())?;
    cluster.admin().apply_manifest()?;
    let cluster = Arc::new(cluster);
    *shared = Some(Arc::clone(&cluster));
    std::thread::spawn(|| end_when_idle(janitor));
    Ok(Some(cluster))
}

fn lock() -> MutexGuard<'static, Option<Arc<Cluster>>> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end_when_idle(mut janitor: Child) {
    let mut idle = 0;
    loop {
        std::thread::sleep(LOOK);
        // Nobody gets it meanwhile.
        let mut shared = lock();
        let in_use = shared.as_ref().is_some_and(|cluster| Arc::strong_count(cluster) > 1);
        idle = if in_use { 0 } else { idle + 1 };
        if idle == LOOKS {
            *shared = None;
            break;
        }
    }
    drop(janitor.stdin.take());
    let _ = janitor.wait();
}

/// A process that removes the directory when this one has ended: a test program ends without a word to what is shared.
fn janitor(directory: &Path) -> Result<Child> {
    // What still dies may have the directory when it is removed for the first time.
    let script = r#"cat; for try in 1 2 3 4 5; do rm -rf -- "$0" && exit; sleep 1; done"#;
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(directory).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("a process that cleans up")
}
