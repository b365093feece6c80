//! `flanneld plugin dev`: builds a plugin's project whenever it changes, checks briefly what was built, and shows what is declared otherwise
//! than by the last build that went well. What goes wrong is said in a line, and the next change is waited for.

mod cluster;
mod project;
mod watch;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use flannel_plugin_devkit::check::{self, Check, Selection, Verdict};
use flannel_plugin_host::{Loader, PluginReference};
use flanneld::cli;

use super::output;
use super::plugin::load;
use super::trial::Trial;
pub(crate) use cluster::PrivilegedCluster;
use project::Project;
use watch::Watch;

/// How often files are looked at. A project has few, so that nothing is gained by the kernel's notifications, which network file systems and
/// mounts of virtual machines do not have.
const INTERVAL: Duration = Duration::from_millis(300);

/// What was asked for.
pub(super) struct Order {
    /// The project.
    pub directory: PathBuf,
    /// The command that builds it, for a shell.
    pub build: Option<String>,
    /// What that makes, in the project.
    pub component: Option<PathBuf>,
    /// What the plugin is tried with.
    pub trial: cli::Trial,
    /// The cluster on which it runs, too.
    pub cluster: Option<PrivilegedCluster>,
}

/// Goes on until a signal ends it.
pub(super) fn run(order: Order, loader: &Loader) -> anyhow::Result<()> {
    let Order { directory, build, component, trial, cluster } = order;
    let shown = directory.display();
    ensure!(
        directory.is_dir(),
        "{shown} is no directory: name a project, as `flanneld plugin new` writes it"
    );
    let project = Project::find(&directory, build, component)?;
    // What is wrong with the command line ends it; what is in files may be mended.
    Trial::of(&cli::Trial { leases: None, ipv6: false, ..trial.clone() })?;
    let mut watch = Watch::new(&directory);
    let mut declared = None;
    loop {
        output::line(format_args!("building with {}", project.command()))?;
        match project.build().and_then(|component| examine(&component, &trial, loader)) {
            Ok(Some(Examined { component, backend, declares })) => {
                show(declared.as_deref(), &declares)?;
                declared = Some(declares);
                if let Some(cluster) = &cluster
                    && let Err(error) = cluster.run(component, backend)
                {
                    output::line(format_args!("FAILED   {error:#}"))?;
                }
            }
            Ok(None) => {}
            Err(error) => output::line(format_args!("FAILED   {error:#}"))?,
        }
        output::line(format_args!("waiting for a change in {shown}; Ctrl-C ends this"))?;
        let changed = watch.wait(INTERVAL);
        output::line(format_args!("\n{changed}"))?;
    }
}

/// What was built, and has passed.
struct Examined {
    component: PathBuf,
    /// The network config's `Backend` object that it was tried with.
    backend: String,
    /// What it declares.
    declares: String,
}

/// Checks what was built; answers with what it declares if that went well.
fn examine(
    component: &std::path::Path,
    trial: &cli::Trial,
    loader: &Loader,
) -> anyhow::Result<Option<Examined>> {
    let begin = Instant::now();
    let trial = Trial::of(trial)?;
    let reference = component.display().to_string();
    let reference: PluginReference = reference.parse().with_context(|| reference.clone())?;
    let artifact = load(&reference, loader)?;
    let (mut made, mut failed, mut printed) = (0, 0, Ok(()));
    let tell = |check: &Check| {
        made += usize::from(!matches!(check.verdict, Verdict::Skipped(_)));
        failed += usize::from(check.failed());
        if matches!(check.verdict, Verdict::Failed(_) | Verdict::Warning(_)) && printed.is_ok() {
            printed = output::line(check);
        }
    };
    let outcome = check::check(&artifact, &trial.wanted, trial.leases.as_ref(), &Selection::Quick, tell);
    printed?;
    let seconds = begin.elapsed().as_secs_f64();
    if outcome.conforms {
        output::line(format_args!("ok       {reference}: {made} checks passed in {seconds:.1} s"))?;
        let backend = trial.wanted.of(&artifact).map_err(anyhow::Error::msg)?;
        let component = component.to_owned();
        return Ok(outcome.desired.map(|desired| Examined {
            component,
            backend,
            declares: desired.to_string(),
        }));
    }
    output::line(format_args!("FAILED   {reference}: {failed} of {made} checks failed in {seconds:.1} s"))?;
    Ok(None)
}

/// All of it at first, and then what is different.
fn show(before: Option<&str>, now: &str) -> anyhow::Result<()> {
    let Some(before) = before else { return Ok(output::text(format_args!("\n{now}\n"))?) };
    let difference = check::difference(before, now);
    if difference.is_empty() {
        return Ok(output::line("it declares what it declared before")?);
    }
    output::line("it declares, otherwise than the last build that went well:")?;
    Ok(difference.iter().try_for_each(output::line)?)
}
