//! The CNI plugin `flannel`, by the CNI specification 1.1 (<https://www.cni.dev/docs/spec/>).
//!
//! It makes no interface itself. From the node's subnet file, which flanneld writes, it renders the configuration of another plugin, `bridge`
//! unless another one is named, and delegates to that. What was rendered is kept for each container, so that `DEL` undoes what `ADD` did,
//! whatever has become of the subnet file meanwhile.
//!
//! Nothing here knows of the daemon: a runtime starts this program for each request, so it has to be small and fast.

#![warn(unreachable_pub)]

mod command;
mod config;
mod container_id;
mod delegate;
mod environment;
mod error;
mod node_subnet;
mod render;
mod saved;
mod version;

use std::io::{self, IsTerminal as _, Read, Write};
use std::process::ExitCode;

use command::Command;
pub use environment::{COMMAND, Environment};
use error::{CniError, codes};

/// What a program says that was started by hand.
const ABOUT: &str = concat!(
    "CNI plugin flannel, version ",
    env!("CARGO_PKG_VERSION"),
    " of flanneld: container runtimes start it with CNI_COMMAND set, and a network configuration on standard input"
);

/// Runs the plugin with this process's environment and streams.
pub fn run_process() -> ExitCode {
    let environment = Environment::of_this_process();
    // A terminal has no configuration for us, and would be waited for.
    let mut stdin: Box<dyn Read> =
        if io::stdin().is_terminal() { Box::new(io::empty()) } else { Box::new(io::stdin()) };
    ExitCode::from(run(&environment, &mut stdin, &mut io::stdout(), &mut io::stderr()))
}

/// Carries out one request; answers the exit status. `environment` has the request, and is what delegates get. The result, or an error in CNI's
/// form, goes to `stdout`; to `stderr` goes what delegates write there, and what does not fail the request.
pub fn run(
    environment: &Environment,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> u8 {
    if environment.get(COMMAND).is_none() {
        let versions = version::SUPPORTED.join(", ");
        let _ = writeln!(stderr, "{ABOUT}\nCNI versions: {versions}");
        return 0;
    }
    let mut version = None;
    let outcome = Command::of(environment)
        .and_then(|command| command.run(environment, &mut Streams { stdin, stderr }, &mut version));
    let (text, status) = match outcome {
        Ok(result) => (result, 0),
        Err(error) => (error.to_json(version.as_deref()), 1),
    };
    match stdout.write_all(&text).and_then(|()| stdout.flush()) {
        Ok(()) => status,
        Err(error) => {
            let _ = writeln!(stderr, "flannel: the result cannot be written: {error}");
            1
        }
    }
}

/// What a request is read from, and where remarks go.
struct Streams<'a> {
    stdin: &'a mut dyn Read,
    stderr: &'a mut dyn Write,
}

impl Streams<'_> {
    /// The network configuration's text.
    fn read(&mut self) -> Result<Vec<u8>, CniError> {
        let mut text = Vec::new();
        self.stdin.read_to_end(&mut text).map_err(|error| {
            CniError::new(
                codes::IO,
                format!("the network configuration cannot be read from standard input: {error}"),
            )
        })?;
        Ok(text)
    }

    /// Says something that does not fail the request. Who does not listen need not.
    fn remark(&mut self, text: impl std::fmt::Display) {
        let _ = writeln!(self.stderr, "flannel: {text}");
    }
}
