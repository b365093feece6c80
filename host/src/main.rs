//! The `flanneld` binary.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use flanneld::daemon::{self, Cli, Command, Options, PluginCommand, log};
use flanneld::plugin::{BuiltIn, compile_for_embedding};

include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => serve(cli.options),
        Some(Command::Plugin(PluginCommand::Compile { component, output })) => compile(&component, &output),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flanneld: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Options) -> anyhow::Result<()> {
    log::start(options.log_format, &options.log_level);
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

fn compile(component: &Path, output: &Path) -> anyhow::Result<()> {
    use anyhow::Context;
    let shown = component.display();
    let bytes = std::fs::read(component).with_context(|| format!("cannot read {shown}"))?;
    let compiled =
        compile_for_embedding(&bytes).map_err(|error| anyhow::anyhow!("{shown}: {}", error.root_cause()))?;
    std::fs::write(output, compiled).with_context(|| format!("cannot write {}", output.display()))
}
