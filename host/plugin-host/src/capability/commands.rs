//! `commands`: what the operator has written into the network config, run outside of the plugin's own time. The plugin names an option, and
//! gets no further than that: the text is the config's, and of the environment only those variables are its to set that no program is
//! chosen by.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use flannel_model::network_config::fields;

use super::HostState;
use crate::bindings::flannel::backend::commands as wit;
use crate::convert::shown;
use crate::facts::{Command, CommandFailure, CommandOutcome};

/// Time for one command.
const COMMAND: Duration = Duration::from_secs(30);
/// Time for all commands of one call of the plugin.
const CALL: Duration = Duration::from_mins(2);
/// How the names of options end that are commands.
const SUFFIX: &str = "command";
/// Variables that a plugin may set, and what others that it may begin with.
const VARIABLES: [&str; 6] = ["NETWORK", "IPV6NETWORK", "SUBNET", "IPV6SUBNET", "PUBLIC_IP", "PUBLIC_IPV6"];
const PREFIX: &str = "FLANNEL_";
/// How many of them, bytes of their names and of their values.
const MOST_VARIABLES: usize = 32;
const NAME: usize = 64;
const VALUE: usize = 4096;
/// Bytes of standard input.
const INPUT: usize = 128 << 10;

impl wit::Host for HostState {
    fn run(
        &mut self,
        name: String,
        environment: Vec<(String, String)>,
        input: String,
    ) -> wasmtime::Result<Result<wit::Outcome, wit::Error>> {
        self.enter("commands.run")?;
        let outcome = self.run_command(&name, environment, input);
        if let Err(wit::Error::Invalid(text) | wit::Error::Denied(text)) = &outcome
            && self.call.refused.is_none()
        {
            self.call.refused = Some(format!("commands.run: {text}"));
        }
        Ok(outcome)
    }
}

impl HostState {
    fn run_command(
        &mut self,
        name: &str,
        environment: Vec<(String, String)>,
        input: String,
    ) -> Result<wit::Outcome, wit::Error> {
        check_environment(&environment).map_err(wit::Error::Invalid)?;
        if input.len() > INPUT {
            let reason = format!("{} bytes of input; at most {INPUT}", input.len());
            return Err(wit::Error::Invalid(reason));
        }
        let (name, text) = command_of(&self.environment.config, name).map_err(wit::Error::Invalid)?;
        let begun = Instant::now();
        let end = *self.call.commands_end.get_or_insert(begun + CALL);
        if begun >= end {
            let seconds = CALL.as_secs();
            let reason = format!("{name}: the {seconds} s that commands have in one call are over");
            return Err(wit::Error::Unavailable(reason));
        }
        let command = Command { name, text, environment, input };
        let ran = self.outside(|host| host.environment.commands.run(&command, end.min(begun + COMMAND)));
        let CommandOutcome { status, output, truncated } = ran?;
        Ok(wit::Outcome { status, output, truncated })
    }
}

impl From<CommandFailure> for wit::Error {
    fn from(failure: CommandFailure) -> Self {
        match failure {
            CommandFailure::Denied(text) => Self::Denied(text),
            CommandFailure::Unavailable(text) => Self::Unavailable(text),
        }
    }
}

/// The options of a `Backend` object that are commands, as they are written, with their texts. Of several that differ only in case the last
/// counts.
pub fn commands(backend: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (name, value) in fields(backend).unwrap_or_default() {
        if !is_command(&name) {
            continue;
        }
        found.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
        let text: Option<String> = serde_json::from_str(value.get()).ok();
        found.extend(text.filter(|text| !text.is_empty()).map(|text| (name, text)));
    }
    found
}

fn is_command(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(SUFFIX)
}

/// The command that an option is, with its name as the config has it.
fn command_of(config: &str, name: &str) -> Result<(String, String), String> {
    let named = || format!("the option {:?}", shown(name, 80));
    if !is_command(name) {
        return Err(format!("{}: options that are commands end in `Command`", named()));
    }
    let found = commands(config).into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let (name, text) = found.ok_or_else(|| format!("{}: the network config has no such command", named()))?;
    if text.contains('\0') {
        return Err(format!("{name}: a command has no NUL"));
    }
    Ok((name, text))
}

fn check_environment(environment: &[(String, String)]) -> Result<(), String> {
    if environment.len() > MOST_VARIABLES {
        return Err(format!("{} variables; at most {MOST_VARIABLES}", environment.len()));
    }
    let mut seen = BTreeSet::new();
    for (name, value) in environment {
        let named = || format!("the variable {:?}", shown(name, 80));
        if !is_variable(name) {
            let known = VARIABLES.join(", ");
            return Err(format!(
                "{}: there are {known}, and {PREFIX}… of A-Z, 0-9 and `_`, up to {NAME}",
                named()
            ));
        }
        if !seen.insert(name) {
            return Err(format!("{} comes twice", named()));
        }
        if value.len() > VALUE || value.contains('\0') {
            return Err(format!("{} has at most {VALUE} bytes, and no NUL", named()));
        }
    }
    Ok(())
}

/// Whether a plugin may say what a variable is: nothing is found or loaded by it.
fn is_variable(name: &str) -> bool {
    let proper = |rest: &str| {
        let of_a_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        !rest.is_empty() && rest.bytes().all(of_a_name)
    };
    let is_own = name.len() <= NAME && name.strip_prefix(PREFIX).is_some_and(proper);
    VARIABLES.contains(&name) || is_own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_choose_what_is_run_are_not_a_plugins_to_set() {
        for right in ["SUBNET", "PUBLIC_IPV6", "FLANNEL_MTU", "FLANNEL_A_1"] {
            assert!(is_variable(right), "{right}");
        }
        let long = format!("FLANNEL_{}", "A".repeat(NAME));
        for wrong in [
            "",
            "PATH",
            "LD_PRELOAD",
            "BASH_ENV",
            "ENV",
            "IFS",
            "subnet",
            "FLANNEL_",
            "FLANNEL_a",
            "FLANNEL_A=B",
            "SUBNET=",
            "XSUBNET",
            &long,
        ] {
            assert!(!is_variable(wrong), "{wrong}");
        }
    }

    #[test]
    fn variables_have_bounds_and_come_once() {
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(check_environment(&[variable("SUBNET", "a\nb"), variable("NETWORK", "")]), Ok(()));
        let many = (0..=MOST_VARIABLES).map(|number| variable(&format!("FLANNEL_{number}"), "")).collect();
        let wrong: [(Vec<(String, String)>, &str); 4] = [
            (vec![variable("SUBNET", ""), variable("SUBNET", "")], "\"SUBNET\" comes twice"),
            (vec![variable("SUBNET", &"x".repeat(VALUE + 1))], "at most 4096 bytes"),
            (vec![variable("SUBNET", "\0")], "no NUL"),
            (many, "33 variables; at most 32"),
        ];
        for (variables, said) in wrong {
            let error = check_environment(&variables).expect_err("refused");
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_command_is_found_as_upstream_finds_options() {
        let config = r#"{"Type":"x","addcommand":"one","AddCommand":"two","Command":"three","NoCommand":"","NumberCommand":7,"Add":"x"}"#;
        let command = |name| command_of(config, name).map(|(_, text)| text);
        assert_eq!(command("ADDCOMMAND"), Ok("two".to_owned()));
        assert_eq!(command("Command"), Ok("three".to_owned()));
        for (wrong, said) in [
            ("NoCommand", "no such command"),
            ("NumberCommand", "no such command"),
            ("OtherCommand", "no such command"),
            ("Type", "end in `Command`"),
            ("Add", "end in `Command`"),
        ] {
            let error = command(wrong).expect_err("refused");
            assert!(error.contains(said), "{error}");
        }
    }
}
