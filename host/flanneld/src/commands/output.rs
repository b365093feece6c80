//! What commands print. `println!` panics where nobody reads any more, or where a disk is full; both are for the shell to know.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// What shells see of a program that `SIGPIPE` has ended, as it ends those of whose output `head` has had enough.
const READER_GONE: u8 = 128 + 13;

/// Why something is not printed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to the standard output")]
pub(crate) struct OutputError(#[from] io::Error);

impl OutputError {
    /// The status to end with, if nothing is to be said about it: the reader knows.
    pub(crate) fn quiet_end(&self) -> Option<ExitCode> {
        (self.0.kind() == io::ErrorKind::BrokenPipe).then(|| ExitCode::from(READER_GONE))
    }
}

/// Prints a line.
pub(crate) fn line(text: impl fmt::Display) -> Result<(), OutputError> {
    text_of(format_args!("{text}\n"))
}

/// Prints a text that has its line ends.
pub(crate) fn text(text: impl fmt::Display) -> Result<(), OutputError> {
    text_of(format_args!("{text}"))
}

fn text_of(text: fmt::Arguments<'_>) -> Result<(), OutputError> {
    // As a whole: where a line ends says nothing of what fits into a pipe.
    bytes(text.to_string().as_bytes())
}

/// Prints what has been made elsewhere.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Says that something went wrong. Where nobody can be told, the status says so.
pub(crate) fn complain(text: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "flanneld: {text}");
}
