//! Compiling components: in a process of its own, which may use so much memory and time and reaches nothing but the component that it
//! is given and the file that it writes. A compiler that meets a stranger's code is the largest target that this daemon has, and what it
//! needs for that code nobody knows before.

mod child;
mod embedded;
mod seccomp;

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::MemfdFlags;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::engine;

pub use child::{CHILD, run_child};
pub use embedded::compile_for_embedding;
pub(crate) use embedded::load;

/// This program, also after another has been installed in its place.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// Bytes that are read of what a compiler says when it fails.
const MAX_WORDS: u64 = 4096;
/// Threads that compile one component: each needs memory for itself.
const MAX_THREADS: usize = 8;
/// A compiler may take so many times its processor time on the clock: the machine has other things to do.
const STARVED: u32 = 4;
/// The signals by which a process ends that has used its processor time (`setrlimit(2)`), has given up, or has been killed.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;

/// What compiling one component may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Bytes of memory.
    pub memory: u64,
    /// Processor time, of all threads together.
    pub time: Duration,
}

impl Default for CompileLimits {
    /// Some three times the memory, and seven times the time, that interpreters take, which are the largest components (measured on two cores).
    fn default() -> Self {
        Self { memory: 1 << 30, time: Duration::from_mins(2) }
    }
}

/// Who compiles.
#[derive(Clone, Copy, Debug)]
pub enum Compiler {
    /// A child that is this very program, within limits. Only for programs that call [`run_child`] first of all.
    Child(CompileLimits),
    /// This process itself, without limits: for tests, and for what is being built in.
    Here,
}

/// Why a component cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It is invalid.
    #[error("not a valid component: {0}")]
    Invalid(String),
    /// It needs more time.
    #[error(
        "compiling it takes more than {} s of processor time: it has {component}; --plugin-compile-time sets the limit",
        .limit.as_secs()
    )]
    Time {
        /// What it may take.
        limit: Duration,
        /// What the component is like.
        component: String,
    },
    /// It needs more memory.
    #[error(
        "compiling it takes more than {} MiB of memory: it has {component}; --plugin-compile-memory sets the limit",
        .limit >> 20
    )]
    Memory {
        /// Bytes that it may take.
        limit: u64,
        /// What the component is like.
        component: String,
    },
    /// The compiler ended otherwise.
    #[error("the compiler ended with {status}, for a component of {component}: {words}")]
    Crashed {
        /// How.
        status: ExitStatus,
        /// What the component is like.
        component: String,
        /// What it said.
        words: String,
    },
    /// There is no compiler to be had.
    #[error("the compiler cannot be started: {0}")]
    NotStarted(io::Error),
}

impl Compiler {
    /// Compiles a component for this machine; answers a file with the code. Whoever drops the future ends the compiler. `like`: what the
    /// component is like, for errors.
    pub(crate) async fn compile(self, component: &[u8], like: &str) -> Result<File, CompileError> {
        match self {
            Self::Here => compile_here(component),
            Self::Child(limits) => compile_in_child(limits, component, like).await,
        }
    }
}

/// Compiles in this process.
pub(crate) fn compile_here(component: &[u8]) -> Result<File, CompileError> {
    let invalid = |error: wasmtime::Error| CompileError::Invalid(first_line(&error.root_cause().to_string()));
    let code = engine::native().and_then(|engine| engine.precompile_component(component)).map_err(invalid)?;
    in_memory("compiled-plugin", &code).map_err(CompileError::NotStarted)
}

async fn compile_in_child(limits: CompileLimits, component: &[u8], like: &str) -> Result<File, CompileError> {
    let input = in_memory("plugin", component).map_err(CompileError::NotStarted)?;
    let output = in_memory("compiled-plugin", &[]).map_err(CompileError::NotStarted)?;
    let out = output.try_clone().map_err(CompileError::NotStarted)?;
    let child = Command::new(THIS_PROGRAM)
        .arg(CHILD)
        .args([limits.memory.to_string(), limits.time.as_secs().max(1).to_string()])
        .env_clear()
        // Else each of its threads reserves memory for itself, which counts.
        .env("MALLOC_ARENA_MAX", "2")
        .env("RAYON_NUM_THREADS", threads().to_string())
        .current_dir("/")
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(out))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(CompileError::NotStarted)?;
    let (mut words, pipe) = (Vec::new(), child.stderr.take());
    let ended = tokio::time::timeout(limits.time * STARVED, async {
        if let Some(pipe) = pipe {
            // It says nothing before it fails, and says it all at once.
            let _ = pipe.take(MAX_WORDS).read_to_end(&mut words).await;
        }
        child.wait().await
    });
    let component = like.to_owned();
    let Ok(ended) = ended.await else {
        return Err(CompileError::Time { limit: limits.time, component });
    };
    let status = ended.map_err(CompileError::NotStarted)?;
    if status.success() {
        return Ok(output);
    }
    Err(verdict(status, first_line(&String::from_utf8_lossy(&words)), limits, component))
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}

fn verdict(status: ExitStatus, words: String, limits: CompileLimits, component: String) -> CompileError {
    let out_of_memory = words.contains("memory allocation of") || words.contains("annot allocate memory");
    match (status.code(), status.signal()) {
        (Some(child::INVALID), _) if !out_of_memory => CompileError::Invalid(words),
        (_, Some(SIGXCPU)) => CompileError::Time { limit: limits.time, component },
        // Whoever has used up twice the limit was killed for it; else the machine had no memory left.
        (_, Some(SIGKILL)) => CompileError::Memory { limit: limits.memory, component },
        (_, signal) if out_of_memory || (signal == Some(SIGABRT) && words.is_empty()) => {
            CompileError::Memory { limit: limits.memory, component }
        }
        _ => CompileError::Crashed { status, component, words },
    }
}

/// A file that is only in memory, at its beginning.
fn in_memory(name: &str, bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn first_line(text: &str) -> String {
    flannel_base::text::one_line(text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CompileLimits = CompileLimits { memory: 1 << 30, time: Duration::from_secs(7) };

    fn said(wait_status: i32, words: &str) -> String {
        let status = ExitStatus::from_raw(wait_status);
        verdict(status, words.to_owned(), LIMITS, "9 functions".to_owned()).to_string()
    }

    #[test]
    fn how_a_compiler_ended_says_which_limit_it_was() {
        let time = "compiling it takes more than 7 s of processor time: it has 9 functions; --plugin-compile-time sets the limit";
        let memory = "compiling it takes more than 1024 MiB of memory: it has 9 functions; --plugin-compile-memory sets the limit";
        assert_eq!(said(SIGXCPU, ""), time);
        assert_eq!(said(SIGKILL, ""), memory);
        assert_eq!(said(SIGABRT, "memory allocation of 64 bytes failed"), memory);
        assert_eq!(said(child::INVALID << 8, "Cannot allocate memory (os error 12)"), memory);
        assert_eq!(said(child::INVALID << 8, "type mismatch"), "not a valid component: type mismatch");
        let crashed = said(11, "");
        assert!(crashed.starts_with("the compiler ended with signal: 11"), "{crashed}");
        let crashed = said(SIGABRT, "thread 'main' panicked");
        assert!(crashed.contains("panicked"), "{crashed}");
    }
}
