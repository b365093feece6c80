//! The `flanneld` binary.

#![warn(unreachable_pub)]

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use flannel_plugin_devkit::new::Language;
use flannel_plugin_devkit::toolchain::Tool;
use flannel_plugin_host::BuiltIn;
use flannel_telemetry::control::ask_status;
use flanneld::cli::{self, Cli, Command, DockerOpts, FirewallCommand, Options};
use flanneld::daemon::{self, log, privileges};
use flanneld::node::docker_opts;

use commands::config::End;
use commands::output::{self, OutputError};

mod commands;

include!(concat!(env!("OUT_DIR"), "/built_in.rs"));
include!(concat!(env!("OUT_DIR"), "/languages.rs"));

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // First of all: they are started for each pod.
    if let Some(status) = flannel_applets::run(&arguments) {
        return status;
    }
    if let Some(status) = flannel_plugin_host::run_child(&arguments) {
        return status;
    }
    // Before the environment is looked at: it has passwords.
    flannel_privileges::harden();
    tune_malloc();
    let outcome = match cli::parse(flannel_applets::as_command(arguments)) {
        Ok(cli) => run(cli),
        Err(error) => return usage(&error),
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if let Some(code) = error.downcast_ref().and_then(OutputError::quiet_end) {
        return code;
    }
    output::complain(format_args!("{error:#}"));
    error.downcast_ref().map_or(ExitCode::FAILURE, |End { status, .. }| ExitCode::from(*status))
}

/// The help that was asked for is such an error, too, with status 0.
fn usage(error: &clap::Error) -> ExitCode {
    match error.print() {
        Err(cause) if !error.use_stderr() => {
            let cause = OutputError::from(cause);
            cause.quiet_end().unwrap_or_else(|| {
                output::complain(format_args!("{:#}", anyhow::Error::from(cause)));
                ExitCode::FAILURE
            })
        }
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1)),
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    if cli.version {
        // Bare, as scripts expect it of upstream.
        return Ok(output::line(concat!("v", env!("CARGO_PKG_VERSION")))?);
    }
    match cli.command {
        None => serve(cli.options, &cli.given),
        Some(Command::Plugin(command)) => {
            // Others' code is compiled and run here, by root perhaps. What cannot be given up changes nothing. What a cluster takes its thread keeps.
            let cluster = commands::dev::PrivilegedCluster::of(&command, &cli.options)?;
            let _ = flannel_privileges::give_up_all_but(flannel_privileges::FILES);
            commands::plugin::run(*command, &cli.options, cluster)
        }
        Some(Command::Config(command)) => commands::config::run(command),
        Some(Command::Status { json, control_socket }) => show_status(&control_socket, json),
        Some(Command::Firewall(FirewallCommand::Remove)) => remove_rules(),
        Some(Command::DockerOpts(wanted)) => docker_options(&wanted),
        Some(Command::Completions { shell }) => {
            // Into memory first: the generator panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut cli::definition(), "flanneld", &mut script);
            Ok(output::bytes(&script)?)
        }
        Some(Command::Man) => {
            let mut page = Vec::new();
            clap_mangen::Man::new(cli::definition()).render(&mut page)?;
            Ok(output::bytes(&page)?)
        }
    }
}

fn serve(options: Options, given: &[String]) -> anyhow::Result<()> {
    let kept = privileges::give_up(&options);
    log::start(&options);
    kept.announce();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), options = given.join(" "), "flanneld starts");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(daemon::run(options, BUILT_IN));
    // A plugin call may still be running: it must not keep the process from ending.
    runtime.shutdown_background();
    if let Err(error) = outcome {
        tracing::error!("{error}");
        std::process::exit(1);
    }
    Ok(())
}

fn show_status(socket: &Path, json: bool) -> anyhow::Result<()> {
    let status = ask_status(socket).map_err(|error| commands::or_another(error, socket))?;
    if json {
        output::line(serde_json::to_string_pretty(&status)?)?;
    } else {
        output::text(status)?;
    }
    Ok(())
}

fn remove_rules() -> anyhow::Result<()> {
    let removed = commands::wait_for(flannel_firewall::remove_all())??;
    if removed.is_empty() {
        output::line("there are no rules of flannel's")?;
    }
    for line in &removed {
        output::line(format_args!("removed {line}"))?;
    }
    Ok(())
}

fn docker_options(wanted: &DockerOpts) -> anyhow::Result<()> {
    let both = wanted.individual == wanted.combined;
    let forms = docker_opts::DockerOpts {
        individual: wanted.individual || both,
        combined: (wanted.combined || both).then(|| wanted.combined_key.clone()),
        ip_masq: !wanted.no_ip_masq,
    };
    // The script knows its variables as text, too.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let subnet = docker_opts::write(&wanted.subnet_file, &wanted.output, &forms, environment)?;
    if let Some(subnet) = subnet {
        commands::wait_for(docker_opts::is_not_routed_elsewhere(subnet))??;
    }
    Ok(())
}

/// The C library's allocator keeps what was freed, in one heap for each thread, for later; a daemon that has worked through a large
/// snapshot once does not need so much again. Two heaps are enough, and what is free at their ends goes back.
fn tune_malloc() {
    #[cfg(target_env = "gnu")]
    // SAFETY: these only set parameters; no thread but this one runs yet, and a refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 * 1024);
    }
}
