//! The commands, and how they end.

use flannel_backend::commands::{self, Outcome};
use flannel_backend::{Config, log};

/// Characters of a command's output in a message.
const SHOWN: usize = 300;

/// A command that the network config has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script(&'static str);

impl Script {
    /// The options: before the start, after it, for a peer that comes, for one that goes.
    pub const NAMES: [&'static str; 4] =
        ["PreStartupCommand", "PostStartupCommand", "SubnetAddCommand", "SubnetRemoveCommand"];

    /// One of them, if it is there.
    pub fn of(config: &Config, name: &'static str) -> Result<Option<Self>, String> {
        Ok(config.text(name)?.filter(|text| !text.is_empty()).map(|_| Self(name)))
    }

    /// Runs it, and answers what it has written, without white space around it. The error is in one line.
    pub fn run(self, environment: &[(&'static str, String)], input: &str) -> Result<String, String> {
        let Self(name) = self;
        let outcome = commands::run(name, environment, &format!("{input}\n"))?;
        let Outcome { status, output, truncated } = outcome;
        let output = output.trim().to_owned();
        if status != 0 {
            let said = if output.is_empty() { "nothing".to_owned() } else { line(&output) };
            return Err(format!("{name} has failed with exit status {status}, and said: {said}"));
        }
        if truncated {
            if name == Self::NAMES[0] {
                return Err(format!("{name} has written more than 64 KiB, which are published: write less"));
            }
            log::warn("a command has written more than 64 KiB", &[("command", name)]);
        }
        Ok(output)
    }
}

/// An output in one line, and not too much of it.
pub fn line(output: &str) -> String {
    let lines = output.lines().map(str::trim).filter(|line| !line.is_empty());
    let whole = lines.collect::<Vec<_>>().join("; ");
    match whole.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}
