//! A component that runs commands: what it gets, and what it is refused.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::tests::{environment, hostile_peer, start_in};
use super::*;

/// Repeats what it is to run. It takes its time, or does not run it, where the text says so.
#[derive(Default)]
struct Echo(Mutex<Vec<Command>>);

impl Commands for Echo {
    fn run(&self, command: &Command, deadline: Instant) -> Result<CommandOutcome, CommandFailure> {
        self.0.lock().expect("lock").push(command.clone());
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(left > Duration::from_secs(20) && left <= Duration::from_secs(30), "{left:?}");
        match command.text.as_str() {
            "deny" => return Err(CommandFailure::Denied("not this one".to_owned())),
            "hang" => return Err(CommandFailure::Unavailable("it hangs".to_owned())),
            "slow" => std::thread::sleep(Duration::from_millis(700)),
            _ => {}
        }
        let output = format!("{} {:?} {}", command.text, command.environment, command.input);
        Ok(CommandOutcome { status: 3, output, truncated: true })
    }
}

/// Calls all that a policy has; answers the first error, and what was run.
fn calls(when: &str, runs: &[Value], carry_on: bool, allow: &str) -> (Option<PluginError>, Vec<Command>) {
    let config = json!({
        "Type": "commander", "When": when, "Run": runs, "CarryOn": carry_on,
        "echoCommand": "echo", "DenyCommand": "deny", "HangCommand": "hang", "SlowCommand": "slow", "EmptyCommand": "",
    });
    let commands = Arc::new(Echo::default());
    let environment = Environment {
        grants: Arc::new(Grants::new(None, vec![allow.to_owned()], &[])),
        commands: Arc::clone(&commands) as Arc<dyn Commands>,
        ..environment(&config.to_string())
    };
    let limits =
        Limits { call_time: Duration::from_millis(300), change_time: Duration::ZERO, ..Limits::default() };
    let mut error = None;
    match start_in("commander", environment, limits) {
        Err(failed) => error = Some(failed),
        Ok(mut bench) => {
            let applied = bench.policy.apply(&[hostile_peer(3)]);
            let rejected = applied.rejected.into_iter().map(|(_, reason)| PluginError {
                plugin: "commander".to_owned(),
                function: "apply",
                cause: Cause::Answered(reason),
            });
            error = error.or_else(|| applied.failures.into_iter().chain(rejected).next());
            error = error.or_else(|| bench.policy.tick().err());
            error = error.or_else(|| bench.policy.retire().err());
        }
    }
    let ran = commands.0.lock().expect("lock").clone();
    (error, ran)
}

fn one(name: &str) -> Value {
    json!({ "name": name, "environment": [["SUBNET", "10.5.3.0/24"]], "input": "data\n" })
}

#[test]
fn a_command_is_run_in_each_call_with_the_configs_text_and_the_plugins_values() {
    for when in ["register", "lease-acquired", "apply", "tick", "retire"] {
        let (error, ran) = calls(when, &[one("EchoCommand")], false, "commands");
        let error = error.expect("what it says");
        let said = error.to_string();
        assert_eq!(error.function, when);
        assert!(
            said.contains("3 \"echo [(\\\"SUBNET\\\", \\\"10.5.3.0/24\\\")] data") && said.ends_with("true"),
            "{said}"
        );
        let wanted = Command {
            name: "echoCommand".to_owned(),
            text: "echo".to_owned(),
            environment: vec![("SUBNET".to_owned(), "10.5.3.0/24".to_owned())],
            input: "data\n".to_owned(),
        };
        assert_eq!(ran, [wanted]);
    }
}

#[test]
fn the_time_of_commands_is_not_the_plugins() {
    let (error, ran) = calls("tick", &[one("SlowCommand"), one("SlowCommand")], true, "commands");
    assert_eq!((error.map(|error| error.to_string()), ran.len()), (None, 2));
}

#[test]
fn a_plugin_that_is_not_granted_commands_is_not_started() {
    let (error, ran) = calls("register", &[one("EchoCommand")], false, "state");
    let error = error.expect("refused");
    assert!(matches!(error.cause, Cause::NotGranted(_)), "{error}");
    assert!(error.to_string().contains("it asks for commands, which it is not granted"), "{error}");
    assert_eq!(ran, []);
}

#[test]
fn what_is_wrong_or_denied_dooms_the_call_and_what_fails_does_not() {
    let with = |environment: Value| json!({ "name": "EchoCommand", "environment": environment });
    let long = json!({ "name": "EchoCommand", "input": "x".repeat(129 << 10) });
    for (run, said) in [
        (one("DenyCommand"), "commands.run: not this one"),
        (one("EmptyCommand"), "the option \"EmptyCommand\": the network config has no such command"),
        (one("OtherCommand"), "the option \"OtherCommand\": the network config has no such command"),
        (one("Type"), "options that are commands end in `Command`"),
        (one("echo; id"), "options that are commands end in `Command`"),
        (with(json!([["PATH", "/tmp"]])), "the variable \"PATH\": there are NETWORK, "),
        (with(json!([["LD_PRELOAD", "/tmp/x.so"]])), "the variable \"LD_PRELOAD\""),
        (with(json!([["SUBNET", "a\u{0}b"]])), "no NUL"),
        (long, "132096 bytes of input; at most 131072"),
    ] {
        let (error, ran) = calls("tick", &[run], true, "commands");
        let error = error.expect("refused");
        assert!(matches!(&error.cause, Cause::Refused(text) if text.contains(said)), "{said}: {error}");
        assert_eq!(ran.len(), usize::from(said.contains("not this one")));
    }
    let (error, _) = calls("tick", &[one("HangCommand")], true, "commands");
    assert_eq!(error.map(|error| error.to_string()), None);
    let (error, _) = calls("tick", &[one("HangCommand")], false, "commands");
    assert!(matches!(&error.expect("told").cause, Cause::Answered(text) if text == "it hangs"));
}
