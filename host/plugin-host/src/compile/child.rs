//! The child that compiles: this program, called with a name that nobody else uses. It gives up what it could do harm with before it looks
//! at the first byte.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use flannel_privileges::Capabilities;
use rustix::process::{Resource, Rlimit, Signal};

use super::seccomp;
use crate::engine;

/// The first argument by which a program is told to be that child; behind it come the limits: bytes of memory, and seconds.
pub const CHILD: &str = "compile-a-component-and-nothing-else";
/// The status with which it says that the component is invalid; why is on standard error.
pub(super) const INVALID: i32 = 65;
/// The status with which it says that it could not give something up.
const UNCONFINED: u8 = 70;
/// Bytes of the largest result.
const MAX_OUTPUT: u64 = 1 << 30;
/// Descriptors that it may have.
const DESCRIPTORS: u64 = 16;
/// How much it gives way to others: packets may be waiting for this processor (`nice(2)`).
const NICE: i32 = 10;

/// Compiles, if this process has been started for that. None: it has not.
pub fn run_child(arguments: &[OsString]) -> Option<ExitCode> {
    let [_, name, memory, seconds] = arguments else { return None };
    if name != CHILD {
        return None;
    }
    let number = |text: &OsString| text.to_str().and_then(|text| text.parse().ok());
    let (Some(memory), Some(seconds)) = (number(memory), number(seconds)) else {
        return Some(ExitCode::from(UNCONFINED));
    };
    Some(match confine(memory, seconds) {
        Ok(()) => compile(),
        Err(error) => {
            eprintln!("the compiler cannot be confined: {error}");
            ExitCode::from(UNCONFINED)
        }
    })
}

fn compile() -> ExitCode {
    let mut component = Vec::new();
    let outcome = io::stdin()
        .read_to_end(&mut component)
        .map_err(wasmtime::Error::from)
        .and_then(|_| engine::native()?.precompile_component(&component))
        .and_then(|code| Ok(io::stdout().write_all(&code)?));
    match outcome {
        // Without the destructors: nobody is going to use this process any more.
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.root_cause());
            ExitCode::from(u8::try_from(INVALID).unwrap_or(1))
        }
    }
}

/// Gives up all that compiling does not need.
fn confine(memory: u64, seconds: u64) -> io::Result<()> {
    // Nobody waits for its result when the daemon is gone.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let _ = rustix::process::nice(NICE);
    // Standard input, output and error are all that it was given.
    // SAFETY: nothing in this process has opened a descriptor yet.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
    // What it writes to, not what it maps: code and libraries cost nobody anything.
    limit(Resource::Data, memory)?;
    limit(Resource::Fsize, MAX_OUTPUT)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, DESCRIPTORS)?;
    // The signal of the first one says that it was that; the second one ends whoever would not listen.
    set(Resource::Cpu, seconds, seconds.saturating_mul(2))?;
    rustix::thread::set_no_new_privs(true)?;
    flannel_privileges::give_up_all_but(Capabilities::empty())?;
    seccomp::confine()
}

fn limit(resource: Resource, value: u64) -> io::Result<()> {
    set(resource, value, value)
}

/// Sets a limit, unless the one that is there already is lower.
fn set(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    let there = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit { current: Some(current.min(there)), maximum: Some(maximum.min(there)) };
    Ok(rustix::process::setrlimit(resource, limit)?)
}
