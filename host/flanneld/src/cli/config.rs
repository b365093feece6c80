//! `flanneld config …`: with the daemon's own flags and variables, which say where the store is and what plugins there are.

use std::fmt;
use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, Subcommand};

use super::environment;
use super::options::Options;

/// The daemon's flags that count for these commands. Its others are taken, too, so that its command line can be given as it is.
const OF_USE: [&str; 27] = [
    "store",
    "etcd_endpoints",
    "etcd_prefix",
    "etcd_keyfile",
    "etcd_certfile",
    "etcd_cafile",
    "etcd_username",
    "etcd_password",
    "plugin",
    "plugin_grants",
    "allow",
    "plugin_option",
    "http_endpoints",
    "plugin_compile_time",
    "plugin_compile_memory",
    "cache_dir",
    "state_dir",
    "subnet_file",
    "former_networks",
    "uplinks",
    "iface",
    "iface_regex",
    "iface_can_reach",
    "public_ip",
    "public_ipv6",
    "control_socket",
    "log_level",
];

/// Work on the network config.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show what a network config would do on this node, and change nothing
    ///
    /// Compares it with the config that is in force, looks for the plugin, and starts that without a way to the kernel. The daemon of
    /// this node is asked if it runs; the store is read. Give the daemon's own flags, or its variables. Ends with status 0 if the
    /// nodes can change to it while they run, 1 if it is wrong or could not start here, 3 if it takes a restart of each node.
    Check {
        /// The config: a file with JSON, or - for the standard input
        file: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// The daemon's flags.
        #[command(flatten)]
        daemon: Box<DaemonFlags>,
    },
    /// Write a network config into the store, and wait until the cluster has changed to it
    ///
    /// Checks it as `check` does, and writes it only if the nodes can change to it while they run, and if nobody else has written
    /// another one meanwhile. The daemon of this node is then asked how the change goes. Ends with status 0 when all has moved, with 1
    /// and a list of what has not when the time is over. An interrupt ends the waiting with status 130, and not the change.
    Set {
        /// The config: a file with JSON, or - for the standard input
        file: PathBuf,
        /// How long to wait
        #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        timeout: u64,
        /// Write it, and do not wait
        #[arg(long, conflicts_with = "timeout")]
        no_wait: bool,
        /// The daemon's flags.
        #[command(flatten)]
        daemon: Box<DaemonFlags>,
    },
}

impl ConfigCommand {
    /// The daemon's flags.
    pub fn daemon(&mut self) -> &mut Options {
        match self {
            Self::Check { daemon, .. } | Self::Set { daemon, .. } => &mut daemon.options,
        }
    }
}

/// The daemon's flags, for another command.
#[derive(Args, Clone)]
pub struct DaemonFlags {
    /// All of them.
    #[command(flatten)]
    pub options: Options,
}

impl fmt::Debug for DaemonFlags {
    /// There is a password among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DaemonFlags").finish_non_exhaustive()
    }
}

/// Gives the daemon's flags their variables in these commands, too, and leaves those out of their help that are of no use there.
pub(super) fn with_variables(definition: Command) -> Command {
    let names: Vec<String> = definition.get_arguments().map(|flag| flag.get_id().to_string()).collect();
    let is_daemons = move |id: &str| names.iter().any(|name| name == id);
    definition.mut_subcommand("config", |config| {
        config.mut_subcommands(|command| {
            let of_use = command.clone().mut_args(|flag| {
                let id = flag.get_id().as_str();
                let is_hidden = is_daemons(id) && !OF_USE.contains(&id);
                if is_hidden { flag.hide(true) } else { flag }
            });
            environment::with_variables_of(of_use, &is_daemons)
        })
    })
}

/// The matches of such a command, if it is one.
pub(super) fn matches(matches: &ArgMatches) -> Option<&ArgMatches> {
    let (_, command) = matches.subcommand_matches("config")?.subcommand()?;
    Some(command)
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, definition, parse};
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        let all = ["flanneld", "config", "check", "net.json"].iter().chain(arguments);
        let Cli { command: Some(super::super::Command::Config(mut command)), .. } =
            parse(all.map(Into::into)).expect("accepted")
        else {
            panic!("another command");
        };
        command.daemon().clone()
    }

    #[test]
    fn the_daemons_flags_are_taken_and_decide_where_its_files_are() {
        let options = options(&["--etcd-prefix", "/blue/net", "--ip-masq", "--healthz-port=8081"]);
        assert_eq!(options.etcd_prefix, "/blue/net");
        assert_eq!(options.control_socket.display().to_string(), "/run/flannel/flanneld-blue-net.sock");
        assert_eq!(options.state_dir.display().to_string(), "/var/lib/flanneld/blue-net");
    }

    #[test]
    fn what_is_of_use_has_its_variable_and_is_in_the_help_and_the_rest_is_not() {
        let mut definition = definition();
        let config = definition.find_subcommand_mut("config").expect("there");
        for name in ["check", "set"] {
            let command = config.find_subcommand_mut(name).expect("there");
            let help = command.render_long_help().to_string();
            for part in ["--etcd-endpoints", "FLANNELD_ETCD_ENDPOINTS", "--control-socket", "--plugin-grants"]
            {
                assert!(help.contains(part), "{part} is not in:\n{help}");
            }
            for part in ["--ip-masq", "FLANNELD_JSON", "FLANNELD_TIMEOUT", "FLANNELD_NO_WAIT"] {
                assert!(!help.contains(part), "{part} is in:\n{help}");
            }
        }
        let flags = definition.get_arguments().map(|flag| flag.get_id().as_str()).collect::<Vec<_>>();
        assert!(OF_USE.iter().all(|id| flags.contains(id)), "{flags:?}");
    }

    #[test]
    fn no_password_is_shown() {
        let flags = DaemonFlags { options: options(&["--etcd-password=canary"]) };
        assert!(!format!("{flags:?}").contains("canary"));
    }
}
