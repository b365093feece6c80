//! Commands of the network config: which of them this daemon runs, and who runs them.

mod shell;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use flannel_model::network_config::NetworkConfig;
use flannel_plugin_host::{Command, CommandFailure, CommandOutcome, Commands, commands};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Which commands are run: those that the network config had when the daemon was started, as upstream runs them. Who may write the network
/// config of a running daemon is not to have a shell on each node by that, unless the operator says so.
pub(super) struct Permission {
    /// `--allow-commands`: also those that come later.
    later: bool,
    /// Their texts; none: the network config was not read yet.
    known: Mutex<Option<BTreeSet<String>>>,
}

impl Permission {
    /// Of a daemon that has not read anything yet.
    pub(super) fn new(later: bool) -> Self {
        Self { later, known: Mutex::new(None) }
    }

    /// Takes the commands of the daemon's start: what the network config has, and what this node itself has written down. Only the first
    /// time; what comes later is for [`Permission::take_up`].
    pub(super) fn begin<'a>(&self, backends: impl IntoIterator<Item = &'a str>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert_with(|| backends.into_iter().flat_map(texts).collect());
    }

    /// Whether a network config that has come to a running daemon may have its commands. The error names the one that may not.
    pub(super) fn take_up(&self, config: &NetworkConfig) -> Result<(), String> {
        if self.later {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get_or_insert_default().extend(texts(config.backend.get()));
        }
        self.check(config)
    }

    /// Whether all commands of a backend are run. The error names one that is not.
    pub(super) fn check(&self, config: &NetworkConfig) -> Result<(), String> {
        let unknown = commands(config.backend.get()).into_iter().find(|(_, text)| !self.has(text));
        unknown.map_or(Ok(()), |(name, _)| Err(refusal(&name)))
    }

    fn has(&self, text: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().is_some_and(|known| known.contains(text))
    }
}

fn texts(backend: &str) -> impl Iterator<Item = String> + use<> {
    commands(backend).into_iter().map(|(_, text)| text)
}

fn refusal(name: &str) -> String {
    format!(
        "{name} is not what the network config had at flanneld's start, and is not run: restart flanneld, or give it --allow-commands"
    )
}

/// Runs commands for the policy, which waits on its own thread: that one can start nothing.
pub(super) struct CommandRunner {
    permission: Arc<Permission>,
    /// Where there are privileges.
    runtime: Handle,
}

impl CommandRunner {
    /// With the runtime that this is called in.
    pub(super) fn new(permission: Arc<Permission>) -> Self {
        Self { permission, runtime: Handle::current() }
    }
}

impl Commands for CommandRunner {
    fn run(&self, command: &Command, deadline: Instant) -> Result<CommandOutcome, CommandFailure> {
        if !self.permission.has(&command.text) {
            return Err(CommandFailure::Denied(refusal(&command.name)));
        }
        let (answer, answered) = oneshot::channel();
        let command = command.clone();
        self.runtime.spawn(async move {
            // Whoever asked may be gone.
            let _ = answer.send(shell::run(&command, deadline).await);
        });
        let ended = |_| Err(CommandFailure::Unavailable("flanneld is about to end".to_owned()));
        answered.blocking_recv().unwrap_or_else(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(command: &str) -> NetworkConfig {
        let text = format!(
            r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"extension","SubnetAddCommand":"{command}"}}}}"#
        );
        NetworkConfig::parse(&text).expect("valid")
    }

    fn begun(later: bool) -> Permission {
        let permission = Permission::new(later);
        permission.begin([config("one").backend.get(), config("two").backend.get()]);
        permission
    }

    #[test]
    fn what_was_there_at_the_start_is_run_and_what_comes_later_is_not() {
        let permission = begun(false);
        assert_eq!(permission.take_up(&config("one")), Ok(()));
        assert_eq!(permission.check(&config("two")), Ok(()));
        // Another start of the same daemon is none.
        permission.begin([config("three").backend.get()]);
        let error = permission.take_up(&config("three")).expect_err("refused");
        assert!(
            error.starts_with("SubnetAddCommand is not what") && error.contains("--allow-commands"),
            "{error}"
        );
    }

    #[test]
    fn with_the_flag_what_the_network_config_gets_later_is_run_and_what_others_say_is_not() {
        let permission = begun(true);
        assert_eq!(permission.take_up(&config("three")), Ok(()));
        assert_eq!(permission.check(&config("three")), Ok(()));
        assert!(permission.check(&config("four")).is_err());
    }

    #[test]
    fn nothing_is_run_before_there_is_a_network_config() {
        assert!(Permission::new(false).check(&config("one")).is_err());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_confined_thread_gets_what_a_command_says_and_no_command_that_is_not_allowed() {
        let permission = Arc::new(Permission::new(false));
        permission.begin([config("echo hello").backend.get()]);
        let runner = CommandRunner::new(permission);
        let ran = super::super::confined::run("test", move || {
            ["echo hello", "echo other"].map(|text| {
                let command = Command {
                    name: "SubnetAddCommand".to_owned(),
                    text: text.to_owned(),
                    environment: Vec::new(),
                    input: String::new(),
                };
                runner.run(&command, Instant::now() + std::time::Duration::from_secs(30))
            })
        });
        let [allowed, other] = ran.await.expect("an outcome");
        assert_eq!(allowed.expect("run").output, "hello\n");
        assert!(matches!(other, Err(CommandFailure::Denied(_))), "{other:?}");
    }
}
