//! Commands of the operator's: options of the `Backend` object whose names end in `Command`. A policy says which one, and what it is told; it
//! never says what is run.
//!
//! They are outside of transactions: what one has done stays, whatever becomes of the call in which it was run.

use std::fmt;

/// How a command has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What it has exited with; 128 and the number of the signal that has ended it.
    pub status: i32,
    /// What it has written to standard output and standard error, at most 64 KiB.
    pub output: String,
    /// It has written more than that.
    pub truncated: bool,
}

/// Why there is no outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The arguments are not what their documentation asks for, or there is no such command. Dooms the call.
    Invalid(String),
    /// The operator has not allowed it. Dooms the call.
    Denied(String),
    /// It could not be started, or did not end in time.
    Unavailable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) | Self::Denied(text) | Self::Unavailable(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.to_string()
    }
}

/// Runs the command that an option is, with these variables beside the daemon's own and this as its standard input, and waits for its end.
pub fn run(name: &str, environment: &[(&str, String)], input: &str) -> Result<Outcome, Error> {
    #[cfg(target_family = "wasm")]
    {
        wasm::run(name, environment, input)
    }
    #[cfg(not(target_family = "wasm"))]
    {
        let run = Run {
            name: name.to_owned(),
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            input: input.to_owned(),
        };
        // Taken out meanwhile, so that it may use the host itself.
        let commands = crate::testing::with(|host| host.commands.take());
        let Some(mut commands) = commands else {
            return Err(Error::Unavailable("this test has no commands".to_owned()));
        };
        let outcome = (*commands)(&run);
        crate::testing::with(|host| host.commands = Some(commands));
        outcome
    }
}

/// A command that a policy has run, in tests.
#[cfg(not(target_family = "wasm"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The option.
    pub name: String,
    /// The variables.
    pub environment: Vec<(String, String)>,
    /// Its standard input.
    pub input: String,
}

#[cfg(target_family = "wasm")]
mod wasm {
    use super::{Error, Outcome};
    use crate::bindings::flannel::backend::commands as wit;

    pub fn run(name: &str, environment: &[(&str, String)], input: &str) -> Result<Outcome, Error> {
        let environment: Vec<(String, String)> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        match wit::run(name, &environment, input) {
            Ok(wit::Outcome { status, output, truncated }) => Ok(Outcome { status, output, truncated }),
            Err(wit::Error::Invalid(text)) => Err(Error::Invalid(text)),
            Err(wit::Error::Denied(text)) => Err(Error::Denied(text)),
            Err(wit::Error::Unavailable(text)) => Err(Error::Unavailable(text)),
        }
    }
}
