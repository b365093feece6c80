//! One thread of a process, stopped while the others go on: what a loop that is stuck looks like from outside.

use std::marker::PhantomData;

use anyhow::{Context, Result, ensure};

/// A thread that is stopped (ptrace(2)) until this is dropped, by the thread that has stopped it.
pub struct StoppedThread {
    thread: libc::pid_t,
    /// Only the tracer may let it go.
    _not_send: PhantomData<*const ()>,
}

impl StoppedThread {
    /// Stops a thread, by its number; the first of a process has the process's.
    pub fn of(thread: u32) -> Result<Self> {
        let thread = libc::pid_t::try_from(thread).context("a thread's number")?;
        trace(libc::PTRACE_SEIZE, thread).context("cannot trace the thread")?;
        let stopped = Self { thread, _not_send: PhantomData };
        trace(libc::PTRACE_INTERRUPT, thread).context("cannot stop the thread")?;
        let mut status = 0;
        // SAFETY: `status` is a place for an int that outlives the call.
        let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
        ensure!(waited == thread && libc::WIFSTOPPED(status), "the thread has not stopped: {status:#x}");
        Ok(stopped)
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        // If the process is gone, nobody waits for it.
        let _ = trace(libc::PTRACE_DETACH, self.thread);
    }
}

fn trace(request: libc::c_uint, thread: libc::pid_t) -> std::io::Result<()> {
    // SAFETY: these requests read and write no memory; address and data are not used, or are flags that are zero.
    let done = unsafe { libc::ptrace(request, thread, 0, 0) };
    if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
