//! How a call of a plugin fails.

use std::time::Duration;

use wasmtime::{FrameInfo, Trap, WasmBacktrace};

use super::debuginfo::{Lines, Spot};
use super::grants::GrantError;

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
    /// It failed, was started afresh, and then failed again.
    #[error("{then}; it was started afresh because of {first}")]
    StartedAfresh {
        /// What it failed with first: the function, and the cause.
        first: String,
        /// What came of the start.
        then: Box<Cause>,
    },
    /// There is no instance to call, and none can be made.
    #[error("cannot be started again: {0}")]
    Down(String),
}

/// Functions that say something: a handful, innermost first, without the language's own machinery.
const FUNCTIONS: usize = 4;

/// What the names of a language's own machinery begin with.
const MACHINERY: [&str; 12] = [
    "std::", "core::", "alloc::", "rust_", "__rust", "_rust", "<alloc::", "<std::", "<core::", "dlmalloc",
    "abort", "runtime.",
];

/// What a trap is, in words, and where: the functions with what is known of their lines.
pub(super) fn describe_trap(error: &wasmtime::Error, panic_message: Option<&str>, lines: &Lines) -> String {
    let what = match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => match panic_message {
            Some(words) => words.to_owned(),
            None => "it gave up (a panic, or an allocation that failed)".to_owned(),
        },
        Some(Trap::StackOverflow) => "its stack overflowed".to_owned(),
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return what };
    let shown: Vec<String> =
        trace.frames().iter().flat_map(|frame| functions(frame, lines)).take(FUNCTIONS).collect();
    if shown.is_empty() { what } else { format!("{what} (in {})", shown.join(", from ")) }
}

/// A frame's function, and those that are inlined where it is: innermost first.
fn functions(frame: &FrameInfo, lines: &Lines) -> Vec<String> {
    let mut spots = frame.module_offset().map(|offset| lines.at(offset)).unwrap_or_default();
    if spots.is_empty() {
        spots.push(Spot::default());
    }
    if let Some(outermost) = spots.last_mut()
        && let Some(name) = frame.func_name()
    {
        outermost.function = Some(name.to_owned());
    }
    let described = spots.into_iter().filter_map(|spot| {
        // Without the hash at its end.
        let name = format!("{:#}", rustc_demangle::demangle(&spot.function?));
        let machinery = MACHINERY.iter().any(|prefix| name.starts_with(prefix))
            || spot.place.as_ref().is_some_and(|place| place.library);
        (!machinery).then(|| match spot.place {
            Some(place) => format!("{name} at {place}"),
            None => name,
        })
    });
    described.collect()
}
