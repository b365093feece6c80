//! `flanneld plugin …`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use flannel_plugin_devkit as devkit;
use flannel_plugin_devkit::bench::{Cost, Leases};
use flannel_plugin_devkit::check::Selection;
use flannel_plugin_host::{Artifact, Grants, Loader, PluginReference, compile_for_embedding};
use flannel_telemetry::control::{SwapOrder, Swapped, ask_swap};
use flanneld::cli::{self, Options, PluginCommand, WitCommand};
use flanneld::daemon::log;

use super::check::{self, Golden};
use super::trial::Trial;
use super::{componentize, dev, output, publish, verify, wait_for, wit};
use crate::{BUILT_IN, LANGUAGES};

/// Does what was asked for; `cluster` is the one that the command asks for.
pub(crate) fn run(
    command: PluginCommand,
    options: &Options,
    cluster: Option<dev::PrivilegedCluster>,
) -> anyhow::Result<()> {
    let loader = &options.loader();
    if let PluginCommand::Inspect { component: Some(PluginReference::Registry(_)), .. }
    | PluginCommand::Verify { component: PluginReference::Registry(_), .. }
    | PluginCommand::Pull { .. }
    | PluginCommand::Bench { component: Some(PluginReference::Registry(_)), .. } = &command
    {
        // It is worth knowing whether the registry was asked, and what for.
        log::start(options);
    }
    match command {
        PluginCommand::Compile { component, output } => compile(&component, &output),
        PluginCommand::Inspect { component, plugin_grants, json } => {
            inspect(component.as_ref(), loader, &Grants::new(plugin_grants, Vec::new(), BUILT_IN), json)
        }
        PluginCommand::Swap { component, take_state, json, control_socket } => {
            swap(component, take_state, json, &control_socket)
        }
        PluginCommand::Push { component, to, sign } => {
            publish::push(&component, &to, sign.as_deref(), loader)
        }
        PluginCommand::Wit(WitCommand::Push { to, wit, sign }) => {
            wit::push(&to, wit.as_deref(), sign.as_deref())
        }
        PluginCommand::Sign { component, key, output } => publish::sign(&component, &key, output.as_deref()),
        PluginCommand::Verify { component, key } => verify::verify(&component, &key, &options.cache_dir),
        PluginCommand::Pull { component, output, key } => {
            verify::pull(&component, output.as_deref(), &key, &options.cache_dir)
        }
        PluginCommand::Bench { component, trial, count, json } => {
            bench(component.as_ref(), loader, &trial, &count, json)
        }
        PluginCommand::Run { component, trial, json } => {
            log::start(options);
            dry_run(component.as_ref(), loader, &trial, json)
        }
        PluginCommand::Check { component, trial, golden, bless, quick, only, calls, json } => {
            let selection = match (quick, only.as_slice()) {
                (true, _) => Selection::Quick,
                (false, []) => Selection::All,
                (false, names) => Selection::only(names).map_err(anyhow::Error::msg)?,
            };
            let golden = golden.map(|file| Golden { file, bless });
            let mut trial = Trial::of(&trial)?;
            trial.wanted.calls = calls;
            let artifacts = match trial.wanted.named_type().map_err(anyhow::Error::msg)? {
                None => artifacts(component.as_ref(), loader)?,
                Some(_) => vec![trial.artifact(component.as_ref(), loader)?],
            };
            ensure!(!artifacts.is_empty(), "no plugin is built in: name a file");
            check::run(&artifacts, &trial, golden.as_ref(), &selection, json)
        }
        PluginCommand::Dev { directory, trial, build, component, cluster: _ } => {
            dev::run(dev::Order { directory, build, component, trial, cluster }, loader)
        }
        PluginCommand::New { list: true, .. } => Ok(output::text(devkit::new::list(LANGUAGES))?),
        PluginCommand::New { name, lang, dir, list: false } => {
            new(&name.context("name the backend: flanneld plugin new NAME")?, &lang, dir)
        }
        PluginCommand::Componentize { module, output, wit, world, adapt } => {
            componentize::run(&componentize::Order { module, output, wit, world, adapt })
        }
    }
}

fn compile(component: &Path, output: &Path) -> anyhow::Result<()> {
    let shown = component.display();
    let bytes = std::fs::read(component).with_context(|| format!("cannot read {shown}"))?;
    let compiled =
        compile_for_embedding(&bytes).map_err(|error| anyhow::anyhow!("{shown}: {}", error.root_cause()))?;
    std::fs::write(output, compiled).with_context(|| format!("cannot write {}", output.display()))
}

pub(super) fn load(reference: &PluginReference, loader: &Loader) -> anyhow::Result<Artifact> {
    Ok(wait_for(loader.load(reference))??)
}

/// One that is named, or all that are built in.
fn artifacts(component: Option<&PluginReference>, loader: &Loader) -> anyhow::Result<Vec<Artifact>> {
    let Some(reference) = component else {
        let built_in = BUILT_IN.iter().map(|plugin| Artifact::built_in(plugin.backend_type, BUILT_IN));
        return Ok(built_in.collect::<Result<_, _>>()?);
    };
    Ok(vec![load(reference, loader)?])
}

fn inspect(
    component: Option<&PluginReference>,
    loader: &Loader,
    grants: &Grants,
    json: bool,
) -> anyhow::Result<()> {
    let loader = loader.clone().with_keys(grants.trusted_keys()?);
    let inspections = artifacts(component, &loader)?
        .iter()
        .map(|artifact| devkit::inspect::inspect(artifact, grants))
        .collect::<Result<Vec<_>, _>>()
        .map_err(anyhow::Error::msg)?;
    if json {
        return Ok(output::line(serde_json::to_string(&inspections)?)?);
    }
    let texts: Vec<String> = inspections.iter().map(ToString::to_string).collect();
    Ok(output::text(texts.join("\n"))?)
}

fn swap(component: PluginReference, take_state: bool, json: bool, socket: &Path) -> anyhow::Result<()> {
    let component = match component {
        // The daemon has a working directory of its own.
        PluginReference::File { path, pin } => {
            let path = std::path::absolute(&path).with_context(|| format!("{}", path.display()))?;
            PluginReference::File { path, pin }
        }
        registry @ PluginReference::Registry(_) => registry,
    };
    let order = SwapOrder { plugin: component.to_string(), take_state };
    let swapped = ask_swap(socket, order).map_err(|error| super::or_another(error, socket))?;
    if json {
        return Ok(output::line(serde_json::to_string(&swapped)?)?);
    }
    let Swapped { name, version, digest, entries, messages, took_us } = swapped;
    let took = took_us.div_ceil(1000);
    output::line(format_args!("{name} {version} serves now, sha256 {digest}"))?;
    let changed =
        format_args!("{entries} entries, of which {messages} netlink messages changed something; {took} ms");
    Ok(output::line(changed)?)
}

fn bench(
    component: Option<&PluginReference>,
    loader: &Loader,
    trial: &cli::Trial,
    counts: &[u16],
    json: bool,
) -> anyhow::Result<()> {
    let trial = Trial::of(trial)?;
    let artifact = trial.artifact(component, loader)?;
    let leases = trial.leases.as_ref().map_or(Leases::Made(counts), Leases::Of);
    let costs = devkit::bench::measure(&artifact, &trial.wanted, leases).map_err(anyhow::Error::msg)?;
    if json {
        return Ok(output::line(serde_json::to_string(&costs)?)?);
    }
    output::line(format_args!(
        "{:>8}  {:>12}  {:>12}  {:>8}  {:>8}  {:>8}",
        "leases", "µs a call", "ns a lease", "entries", "rejected", "KiB"
    ))?;
    for cost in costs {
        let microseconds = cost.call_ns / 1000;
        let memory = cost.memory >> 10;
        let Cost { leases, lease_ns, entries, rejected, .. } = cost;
        output::line(format_args!(
            "{leases:>8}  {microseconds:>12}  {lease_ns:>12}  {entries:>8}  {rejected:>8}  {memory:>8}"
        ))?;
    }
    Ok(())
}

fn dry_run(
    component: Option<&PluginReference>,
    loader: &Loader,
    trial: &cli::Trial,
    json: bool,
) -> anyhow::Result<()> {
    let trial = Trial::of(trial)?;
    let artifact = trial.artifact(component, loader)?;
    let desired = devkit::run::run(&artifact, &trial.wanted, trial.leases.as_ref());
    let desired = desired.map_err(anyhow::Error::msg)?;
    if json {
        output::line(serde_json::to_string(&desired)?)?;
    } else {
        output::text(&desired)?;
    }
    desired.failure().map_or(Ok(()), |failure| Err(anyhow::Error::msg(failure)))
}

fn new(name: &str, wanted: &str, directory: Option<PathBuf>) -> anyhow::Result<()> {
    let Some(language) = LANGUAGES.iter().find(|language| language.is(wanted)) else {
        let there: Vec<&str> = LANGUAGES.iter().map(|language| language.name).collect();
        bail!("there is no project in {wanted:?}; there are: {}", there.join(", "));
    };
    let directory = directory.unwrap_or_else(|| PathBuf::from(name));
    let commands = devkit::new::write(language, name, &directory).map_err(anyhow::Error::msg)?;
    let mut text =
        format!("{name} is written, in {}. Next:\n\n    cd {}\n", language.name, quoted(&directory));
    for command in commands {
        text.extend(["    ", &command, "\n"]);
    }
    for tool in language.tools.iter().filter(|tool| tool.find().is_none()) {
        text.extend(["\n", &tool.to_string(), "\n"]);
    }
    Ok(output::text(text)?)
}

/// A path as a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%=".contains(&byte);
    let dashed = if text.starts_with('-') { format!("./{text}") } else { text };
    if dashed.bytes().all(is_plain) { dashed } else { format!("'{}'", dashed.replace('\'', r"'\''")) }
}
