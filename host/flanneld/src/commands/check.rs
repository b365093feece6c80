//! `flanneld plugin check`: lets the kit check plugins, and shows what came of it to people or to programs.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, bail};
use flannel_plugin_devkit::Desired;
use flannel_plugin_devkit::check::{self, Check, Selection, Verdict};
use flannel_plugin_host::Artifact;
use serde::Serialize;

use super::output;
use super::trial::Trial;

/// What a plugin is to declare.
pub(super) struct Golden {
    /// The file that has it.
    pub file: PathBuf,
    /// It is written instead of compared.
    pub bless: bool,
}

/// All that came of one plugin.
#[derive(Serialize)]
struct Checked {
    source: String,
    /// None: no check failed, but not all were made.
    conforms: Option<bool>,
    checks: Vec<Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    golden: Option<Compared>,
    desired: Option<Desired>,
    #[serde(skip)]
    selection: Selection,
}

/// What came of the golden file.
#[derive(Serialize)]
struct Compared {
    file: String,
    #[serde(flatten)]
    verdict: Verdict,
    /// Lines that only the file has begin with `-`, those that only the plugin has with `+`.
    difference: Vec<String>,
}

/// Checks plugins. Those that fail are named in the error, after all that was to be shown.
pub(super) fn run(
    artifacts: &[Artifact],
    trial: &Trial,
    golden: Option<&Golden>,
    selection: &Selection,
    json: bool,
) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for artifact in artifacts {
        if !json {
            output::line(format_args!("{}{}", if all.is_empty() { "" } else { "\n" }, artifact.source()))?;
        }
        let checked = one(artifact, trial, golden, selection, json)?;
        if !json {
            output::text(&checked)?;
        }
        all.push(checked);
    }
    if json {
        output::line(serde_json::to_string(&all)?)?;
    }
    let failed = all.iter().filter(|checked| checked.conforms == Some(false));
    let failed: Vec<&str> = failed.map(|checked| checked.source.as_str()).collect();
    if failed.is_empty() { Ok(()) } else { bail!("does not conform: {}", failed.join(", ")) }
}

/// For people each check is shown as it ends: all together take a while.
fn one(
    artifact: &Artifact,
    trial: &Trial,
    golden: Option<&Golden>,
    selection: &Selection,
    json: bool,
) -> anyhow::Result<Checked> {
    let (mut checks, mut shown) = (Vec::new(), Ok(()));
    let wanted = trial.wanted_of(artifact);
    let outcome = check::check(artifact, &wanted, trial.leases.as_ref(), selection, |check| {
        if !json && shown.is_ok() {
            shown = output::line(check);
        }
        checks.push(check.clone());
    });
    shown?;
    let golden = golden.map(|golden| golden.compare(outcome.desired.as_ref())).transpose()?;
    let as_before = golden.as_ref().is_none_or(|golden| !golden.verdict.failed());
    let well = outcome.conforms && as_before;
    Ok(Checked {
        source: artifact.source().to_string(),
        conforms: (!well || !selection.is_part()).then_some(well),
        checks,
        golden,
        desired: outcome.desired,
        selection: selection.clone(),
    })
}

impl Golden {
    fn compare(&self, desired: Option<&Desired>) -> anyhow::Result<Compared> {
        let file = self.file.display().to_string();
        let mut difference = Vec::new();
        let verdict = match desired.map(ToString::to_string) {
            None => Verdict::Skipped("nothing is declared".to_owned()),
            Some(desired) if self.bless => {
                std::fs::write(&self.file, desired).with_context(|| format!("cannot write {file}"))?;
                Verdict::Ok("written".to_owned())
            }
            Some(desired) => {
                let right = std::fs::read_to_string(&self.file)
                    .with_context(|| format!("cannot read {file}; --bless writes it"))?;
                difference = check::difference(&right, &desired);
                if difference.is_empty() {
                    Verdict::Ok(String::new())
                } else {
                    Verdict::Failed("- is there, + is declared; --bless takes it over".to_owned())
                }
            }
        };
        Ok(Compared { file, verdict, difference })
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict.about(&format!("golden file {}", self.file)))?;
        self.difference.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Checked {
    /// All that came of the checks in a line.
    fn summary(&self) -> String {
        let golden = self.golden.as_ref().map(|golden| &golden.verdict);
        let verdicts: Vec<&Verdict> = self.checks.iter().map(|check| &check.verdict).chain(golden).collect();
        let made = verdicts.iter().filter(|verdict| !matches!(verdict, Verdict::Skipped(_))).count();
        let failed = verdicts.iter().filter(|verdict| verdict.failed()).count();
        let Self { source, selection, .. } = self;
        let part = selection.is_part().then(|| format!("; {selection} is only a part of all checks"));
        let part = part.unwrap_or_default();
        match self.conforms {
            Some(true) => format!("{source} conforms"),
            Some(false) => format!("{source} does not conform: {failed} of {made} checks failed{part}"),
            None => {
                format!("{source}: {made} checks passed{part}, and does not say whether the plugin conforms")
            }
        }
    }

    /// How the checks that failed are made once more, without all others.
    fn again(&self) -> Option<String> {
        let failed = self.checks.iter().filter(|check| check.failed());
        let failed: Vec<&str> = failed.map(|check| check.id).collect();
        (!failed.is_empty()).then(|| format!("these alone once more: --only {}", failed.join(",")))
    }
}

/// What comes after the checks.
impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(golden) = &self.golden {
            write!(f, "{golden}")?;
        }
        if let Some(desired) = &self.desired {
            write!(f, "\n{desired}")?;
        }
        writeln!(f)?;
        if let Some(again) = self.again() {
            writeln!(f, "{again}")?;
        }
        writeln!(f, "{}", self.summary())
    }
}
