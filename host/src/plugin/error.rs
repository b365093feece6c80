//! How a call of a plugin fails.

use std::time::Duration;

use super::grants::GrantError;
use wasmtime::{Trap, WasmBacktrace};

/// A call that failed: which plugin, which function, and why. Nothing of its transaction is applied.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("plugin {plugin}: {function}: {cause}")]
pub struct PluginError {
    /// The plugin's name, or where it came from as long as it has not said its name.
    pub plugin: String,
    /// The function of the `policy` interface.
    pub function: &'static str,
    /// Why.
    pub cause: Cause,
}

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Cause {
    /// It asks for more than it is granted, or the grants cannot be read.
    #[error("{0}")]
    NotGranted(Box<GrantError>),
    /// The function answered an error: the plugin's own words.
    #[error("{0}")]
    Answered(String),
    /// The host refused a capability call.
    #[error("refused by the host: {0}")]
    Refused(String),
    /// The function ran too long.
    #[error("stopped after running for {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The plugin wanted too much memory.
    #[error("stopped when it wanted {wanted} bytes of memory; the limit is {limit}")]
    OutOfMemory {
        /// Bytes that it would have had.
        wanted: usize,
        /// Bytes that it may have.
        limit: usize,
    },
    /// The component trapped: a panic, mostly.
    #[error("trapped: {0}")]
    Trapped(String),
    /// The answer is not what the contract asks for.
    #[error("answered what the contract does not allow: {0}")]
    BadAnswer(String),
    /// There is no instance to call, and none can be made.
    #[error("cannot be started again: {0}")]
    Down(String),
}

/// Frames that say something: a handful, innermost first, without the language's own machinery.
const FRAMES: usize = 4;

/// What a trap is, in words.
pub(super) fn describe_trap(error: &wasmtime::Error, last_words: Option<&str>) -> String {
    let what = match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => match last_words {
            Some(words) => words.to_owned(),
            None => "it gave up (a panic, or an allocation that failed)".to_owned(),
        },
        Some(Trap::StackOverflow) => "its stack overflowed".to_owned(),
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return what };
    let machinery = [
        "std::", "core::", "alloc::", "rust_", "__rust", "_rust", "<alloc::", "<std::", "<core::",
        "dlmalloc", "abort",
    ];
    let frames: Vec<String> = trace
        .frames()
        .iter()
        .filter_map(|frame| frame.func_name())
        // Without the hash at its end.
        .map(|name| format!("{:#}", rustc_demangle::demangle(name)))
        .filter(|name| !machinery.iter().any(|prefix| name.starts_with(prefix)))
        .take(FRAMES)
        .collect();
    if frames.is_empty() { what } else { format!("{what} (in {})", frames.join(", from ")) }
}
