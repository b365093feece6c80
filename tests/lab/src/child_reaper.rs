//! Long-running child processes. None of them outlives this process, even if it is killed.
//!
//! The kernel kills a child by "parent death signal" when the *thread* that made it ends, so one thread that never ends makes
//! them all.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

enum Job {
    Spawn(Box<Command>, mpsc::Sender<io::Result<Child>>),
    Close,
}

static NURSE: LazyLock<Mutex<mpsc::Sender<Job>>> = LazyLock::new(|| {
    let (jobs, queue) = mpsc::channel::<Job>();
    // If the thread cannot start, sending to it fails, which `spawn` reports.
    let _ = std::thread::Builder::new().name("nursery".into()).spawn(move || {
        for job in queue {
            match job {
                // Whoever asked may have given up.
                Job::Spawn(mut command, answer) => drop(answer.send(command.spawn())),
                Job::Close => break,
            }
        }
    });
    Mutex::new(jobs)
});

/// Starts a process that is killed when this one ends, and that a Ctrl-C on the terminal does not reach.
pub fn spawn(mut command: Command) -> Result<Child> {
    let program = command.get_program().to_string_lossy().into_owned();
    let parent = getpid();
    command.process_group(0);
    // SAFETY: between fork and exec only system calls are made; nothing is allocated and no lock is taken.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        });
    }
    let (answer, spawned) = mpsc::channel();
    NURSE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send(Job::Spawn(Box::new(command), answer))
        .map_err(|_| anyhow!("the thread that makes child processes has ended"))?;
    spawned
        .recv()
        .context("the thread that makes child processes ended")?
        .with_context(|| format!("cannot start {program}"))
}

/// Kills a child and waits until it is gone.
pub fn end(child: &mut Child) {
    // It may be gone already; there is nothing else to do then.
    let _ = child.kill();
    let _ = child.wait();
}

/// Kills all child processes, and makes no more of them: for a process that is about to end.
pub fn close() {
    // If the thread has ended already, so have they.
    let _ = NURSE.lock().unwrap_or_else(PoisonError::into_inner).send(Job::Close);
}
