//! Manifests and the chart, as the real programs render them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::objects::Objects;
use crate::{tools, workspace};

/// The namespace that charts are rendered for.
pub const NAMESPACE: &str = "kube-flannel";

/// The directory of the kustomization, or something in it.
pub fn kustomization(inside: &str) -> PathBuf {
    workspace().join("deploy/kubernetes/kustomization").join(inside)
}

/// The chart's directory.
pub fn chart() -> PathBuf {
    workspace().join("deploy/helm/flannel")
}

/// What `kubectl kustomize` makes of a directory.
pub fn kustomize(directory: &Path) -> Result<String> {
    output(Command::new(tools::program("kubectl")).arg("kustomize").arg(directory))
}

/// The base with components, such as `udp`.
pub fn with_components(components: &[&str]) -> Result<Objects> {
    let directory = tempfile::tempdir()?;
    // In a kustomization there are no absolute paths.
    let climb = directory.path().canonicalize()?.components().map(|_| "..").collect::<Vec<_>>().join("/");
    let path = |inside: &str| format!("{climb}{}", kustomization(inside).display());
    let components: Vec<String> = components.iter().map(|name| path(&format!("components/{name}"))).collect();
    let file = serde_json::json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [path("base")],
        "components": components,
    });
    // JSON is YAML.
    std::fs::write(directory.path().join("kustomization.yaml"), file.to_string())?;
    Objects::parse(&kustomize(&directory.path().canonicalize()?)?)
}

/// What `helm template` makes of the chart with values, YAML.
pub fn template(values: &str) -> Result<String> {
    let file = values_file(values)?;
    let mut helm = helm();
    helm.arg("template").arg("flannel").arg(chart()).arg("--values").arg(file.path());
    output(helm.args(["--namespace", NAMESPACE]))
}

/// The same as objects.
pub fn templated(values: &str) -> Result<Objects> {
    Objects::parse(&template(values)?).with_context(|| format!("rendered with {values}"))
}

/// Has `helm lint` judge the chart with values, YAML.
pub fn lint(values: &str) -> Result<String> {
    let file = values_file(values)?;
    output(helm().arg("lint").arg("--strict").arg(chart()).arg("--values").arg(file.path()))
}

/// What the chart says after an installation with values, YAML.
pub fn notes(values: &str) -> Result<String> {
    let file = values_file(values)?;
    let mut helm = helm();
    // A dry run that asks no cluster.
    helm.args(["install", "flannel", "--dry-run=client", "--namespace", NAMESPACE]);
    let all = output(helm.arg(chart()).arg("--values").arg(file.path()))?;
    let (_, notes) = all.split_once("\nNOTES:\n").context("no notes")?;
    Ok(notes.to_owned())
}

fn values_file(values: &str) -> Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), values)?;
    Ok(file)
}

/// `helm` without this user's own settings, and without a cluster.
fn helm() -> Command {
    let mut command = Command::new(tools::program("helm"));
    command.env("KUBECONFIG", "/dev/null");
    for (variable, place) in
        [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
    {
        command.env(variable, tools::place().join("helm").join(place));
    }
    command
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    Ok(String::from_utf8(output.stdout)?)
}
