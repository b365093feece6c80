//! The `flanneld` binary.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use flanneld::cli::{self, Command, DockerOpts, FirewallCommand, Options, PluginCommand};
use flanneld::daemon::{self, log};
use flanneld::datapath::firewall;
use flanneld::node::docker_opts;
use flanneld::observe::control::{Swapped, ask_status, ask_swap};
use flanneld::plugin::{
    self, Artifact, BuiltIn, Grants, PluginReference, Registries, RegistryReference, compile_for_embedding,
    kit,
};

include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

fn main() -> ExitCode {
    tame_allocator();
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        // The help that was asked for is such an error, too, with status 0.
        Err(error) => error.exit(),
    };
    if cli.version {
        // Bare, as scripts expect it of upstream.
        println!("v{}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    if let Some(Command::Plugin(
        PluginCommand::Inspect { component: Some(PluginReference::Registry(_)), .. }
        | PluginCommand::Bench { component: Some(PluginReference::Registry(_)), .. },
    )) = &cli.command
    {
        // It is worth knowing whether the registry was asked, and what for.
        log::start(&cli.options);
    }
    let outcome = match cli.command {
        None => serve(cli.options, &cli.given),
        Some(Command::Plugin(PluginCommand::Compile { component, output })) => compile(&component, &output),
        Some(Command::Plugin(PluginCommand::Inspect { component, plugin_grants, json })) => {
            let grants = Grants::new(plugin_grants, Vec::new(), BUILT_IN);
            inspect(component.as_ref(), &cli.options.cache_dir, &grants, json)
        }
        Some(Command::Plugin(PluginCommand::Swap { component, json, control_socket })) => {
            swap(component, json, &control_socket)
        }
        Some(Command::Plugin(PluginCommand::Push { component, to })) => {
            push(&component, &to, &cli.options.cache_dir)
        }
        Some(Command::Plugin(PluginCommand::Bench { component, backend, leases, json })) => {
            bench(component.as_ref(), &cli.options.cache_dir, &backend, &leases, json)
        }
        Some(Command::Status { json, control_socket }) => show_status(&control_socket, json),
        Some(Command::Firewall(FirewallCommand::Remove)) => remove_rules(),
        Some(Command::DockerOpts(wanted)) => docker_options(&wanted),
        Some(Command::Completions { shell }) => {
            clap_complete::generate(shell, &mut cli::definition(), "flanneld", &mut std::io::stdout());
            Ok(())
        }
        Some(Command::Man) => {
            clap_mangen::Man::new(cli::definition()).render(&mut std::io::stdout()).map_err(Into::into)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flanneld: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Options, given: &[String]) -> anyhow::Result<()> {
    log::start(&options);
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

fn compile(component: &Path, output: &Path) -> anyhow::Result<()> {
    let shown = component.display();
    let bytes = std::fs::read(component).with_context(|| format!("cannot read {shown}"))?;
    let compiled =
        compile_for_embedding(&bytes).map_err(|error| anyhow::anyhow!("{shown}: {}", error.root_cause()))?;
    std::fs::write(output, compiled).with_context(|| format!("cannot write {}", output.display()))
}

/// Runs something for a command, which does nothing beside it.
fn wait_for<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}

fn load(reference: &PluginReference, cache: &Path) -> anyhow::Result<Artifact> {
    Ok(wait_for(plugin::load(reference, cache))??)
}

fn push(component: &Path, to: &RegistryReference, cache: &Path) -> anyhow::Result<()> {
    // What no daemon would load is not worth publishing.
    Artifact::load(component, cache)?;
    let bytes = std::fs::read(component).with_context(|| format!("cannot read {}", component.display()))?;
    let pinned = wait_for(Registries::of_this_node().push(bytes, to))?.with_context(|| to.to_string())?;
    println!("{pinned}");
    Ok(())
}

fn inspect(
    component: Option<&PluginReference>,
    cache: &Path,
    grants: &Grants,
    json: bool,
) -> anyhow::Result<()> {
    let artifacts = match component {
        Some(reference) => vec![load(reference, cache)?],
        None => BUILT_IN
            .iter()
            .map(|plugin| Artifact::built_in(plugin.backend_type, BUILT_IN))
            .collect::<Result<_, _>>()?,
    };
    let inspections = artifacts
        .iter()
        .map(|artifact| kit::inspect::inspect(artifact, grants))
        .collect::<Result<Vec<_>, _>>()
        .map_err(anyhow::Error::msg)?;
    if json {
        println!("{}", serde_json::to_string(&inspections)?);
        return Ok(());
    }
    let texts: Vec<String> = inspections.iter().map(ToString::to_string).collect();
    print!("{}", texts.join("\n"));
    Ok(())
}

fn swap(component: PluginReference, json: bool, socket: &Path) -> anyhow::Result<()> {
    let component = match component {
        // The daemon has a working directory of its own.
        PluginReference::File { path, pin } => {
            let path = std::path::absolute(&path).with_context(|| format!("{}", path.display()))?;
            PluginReference::File { path, pin }
        }
        registry @ PluginReference::Registry(_) => registry,
    };
    let swapped = ask_swap(socket, &component.to_string())?;
    if json {
        println!("{}", serde_json::to_string(&swapped)?);
        return Ok(());
    }
    let Swapped { name, version, digest, entries, messages, took_us } = swapped;
    let took = took_us.div_ceil(1000);
    println!("{name} {version} serves now, sha256 {digest}");
    println!("{entries} entries, of which {messages} netlink messages changed something; {took} ms");
    Ok(())
}

fn bench(
    component: Option<&PluginReference>,
    cache: &Path,
    backend: &str,
    leases: &[u16],
    json: bool,
) -> anyhow::Result<()> {
    let artifact = if let Some(reference) = component {
        load(reference, cache)?
    } else {
        let environment = kit::environment(backend, false).map_err(anyhow::Error::msg)?;
        Artifact::built_in(&environment.backend_type, BUILT_IN)?
    };
    let costs = kit::bench::measure(&artifact, backend, leases).map_err(anyhow::Error::msg)?;
    if json {
        println!("{}", serde_json::to_string(&costs)?);
        return Ok(());
    }
    println!("{:>8}  {:>12}  {:>12}  {:>8}", "leases", "µs a call", "ns a lease", "entries");
    for cost in costs {
        let microseconds = cost.call_ns / 1000;
        println!("{:>8}  {microseconds:>12}  {:>12}  {:>8}", cost.leases, cost.lease_ns, cost.entries);
    }
    Ok(())
}

fn show_status(socket: &Path, json: bool) -> anyhow::Result<()> {
    let status = ask_status(socket)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{status}");
    }
    Ok(())
}

fn remove_rules() -> anyhow::Result<()> {
    let removed = wait_for(firewall::remove_all())??;
    if removed.is_empty() {
        println!("there are no rules of flannel's");
    }
    for line in &removed {
        println!("removed {line}");
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
    Ok(docker_opts::write(&wanted.subnet_file, &wanted.output, &forms)?)
}

/// The C library's allocator keeps what was freed, in one heap for each thread, for later; a daemon that has worked through a large
/// snapshot once does not need so much again. Two heaps are enough, and what is free at their ends goes back.
fn tame_allocator() {
    #[cfg(target_env = "gnu")]
    // SAFETY: these only set parameters; no thread but this one runs yet, and a refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 * 1024);
    }
}
