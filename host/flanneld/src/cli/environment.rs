//! `FLANNELD_*`: a flag that is not on the command line may be in the environment.

use std::ffi::OsString;

use flannel_base::text::without_credentials;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

const PREFIX: &str = "FLANNELD_";

/// The variable of a flag: `--subnet-file` is `FLANNELD_SUBNET_FILE`.
fn variable(argument: &Arg) -> Option<String> {
    // As upstream, whose check for the version comes before the environment.
    let long = argument.get_long().filter(|long| !matches!(*long, "version" | "help"))?;
    Some(format!("{PREFIX}{}", long.to_uppercase().replace('-', "_")))
}

/// Adds its variable to each flag of the daemon.
pub(super) fn with_variables(definition: Command) -> Command {
    with_variables_of(definition, &|_| true)
}

/// Adds its variable to each flag that is meant.
pub(super) fn with_variables_of(definition: Command, is_meant: &dyn Fn(&str) -> bool) -> Command {
    definition.mut_args(|argument| match variable(&argument) {
        // Leaked once for each flag, at the start: clap wants names that live for ever.
        Some(name) if is_meant(argument.get_id().as_str()) => {
            argument.env(&*name.leak()).hide_env_values(true)
        }
        _ => argument,
    })
}

/// An empty variable counts as absent, as upstream has it.
#[expect(clippy::disallowed_methods, reason = "this process's own environment, before anybody reads it")]
pub(super) fn forget_empty_variables(definition: &Command) {
    for name in definition.get_arguments().filter_map(variable) {
        if std::env::var_os(&name).is_some_and(|value| value.is_empty()) {
            // SAFETY: called at the start, before there is a second thread.
            unsafe { std::env::remove_var(&name) };
        }
    }
}

/// The flags that were given, on the command line or in the environment, as they would be written.
pub(super) fn given(definition: &Command, matches: &ArgMatches) -> Vec<String> {
    let mut all = Vec::new();
    for argument in definition.get_arguments() {
        let id = argument.get_id().as_str();
        let variable = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => String::new(),
            Some(ValueSource::EnvVariable) => {
                variable(argument).map(|name| format!(" (from {name})")).unwrap_or_default()
            }
            _ => continue,
        };
        let values = matches.get_raw(id).into_iter().flatten();
        let values = values.map(|value| shown(id, &value.to_string_lossy()));
        let values = values.collect::<Vec<_>>().join(",");
        let value = if id == "etcd_password" { "(hidden)" } else { &values };
        all.push(format!("--{}={value}{variable}", argument.get_long().unwrap_or(id)));
    }
    all
}

/// A flag's value for people. A URL may have a password in it.
fn shown(id: &str, value: &str) -> String {
    if id == "etcd_endpoints" || value.contains("://") {
        value.split(',').map(without_credentials).collect::<Vec<_>>().join(",")
    } else {
        value.to_owned()
    }
}

/// Takes passwords of URLs out of an error about a value.
pub(super) fn without_passwords(mut error: clap::Error) -> clap::Error {
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg] {
        if let Some(ContextValue::String(value)) = error.get(kind).cloned() {
            error.insert(kind, ContextValue::String(shown("", &value)));
        }
    }
    error
}

/// Tells that a wrong value came from the environment, where it did: clap names the flag only.
pub(super) fn name_the_variable(
    mut error: clap::Error,
    definition: &Command,
    arguments: &[OsString],
) -> clap::Error {
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return error;
    }
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg).cloned() else { return error };
    // Such as `--iface <NAME|IP>`.
    let name = shown.trim_start_matches('-').split([' ', '=', '[']).next().unwrap_or_default();
    let flag = format!("--{name}");
    let given = arguments.iter().any(|argument| argument.to_string_lossy().split('=').next() == Some(&flag));
    let argument = definition.get_arguments().find(|argument| argument.get_long() == Some(name));
    if let (false, Some(variable)) = (given, argument.and_then(variable)) {
        error.insert(ContextKind::InvalidArg, ContextValue::String(format!("{shown} (from {variable})")));
    }
    error
}
