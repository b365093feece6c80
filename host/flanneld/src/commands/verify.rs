//! `flanneld plugin verify` and `plugin pull`: what operators do before a plugin is run. Neither runs it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use flannel_base::atomic_file::{self, Mode};
use flannel_plugin_host::{
    PluginReference, Provenance, PublicKey, Pulled, Registries, RegistryReference, TrustedKey, verify_file,
};

use super::{output, wait_for};

/// Verifies the signature of a file, or of what is in a registry.
pub(super) fn verify(component: &PluginReference, keys: &[PathBuf], cache: &Path) -> anyhow::Result<()> {
    let trusted = read_keys(keys)?;
    match component {
        PluginReference::File { path, pin } => {
            let (digest, provenance) =
                verify_file(path, &trusted).with_context(|| format!("cannot read {}", path.display()))?;
            let is_pinned = pin.is_none_or(|pin| pin == digest);
            ensure!(is_pinned, "{component}: the file has {digest}");
            show(&format!("{} ({digest})", path.display()), &provenance)
        }
        PluginReference::Registry(reference) => {
            let pulled = fetch(reference, cache, &trusted)?;
            show(&pulled.reference.to_string(), &pulled.provenance)
        }
    }
}

/// Fetches a component, and refuses it if there are keys and none of them has signed it.
pub(super) fn pull(
    reference: &RegistryReference,
    file: Option<&Path>,
    keys: &[PathBuf],
    cache: &Path,
) -> anyhow::Result<()> {
    let trusted = read_keys(keys)?;
    let pulled = fetch(reference, cache, &trusted)?;
    if let Some(unsigned) = &pulled.provenance.unsigned {
        bail!("{}: {unsigned}", pulled.reference);
    }
    if let Some(file) = file {
        atomic_file::replace(file, &pulled.component, Mode::Exactly(0o644))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(output::line(&pulled.reference)?)
}

fn fetch(reference: &RegistryReference, cache: &Path, trusted: &[TrustedKey]) -> anyhow::Result<Pulled> {
    let pulled = wait_for(Registries::of_this_node().pull(reference, cache, trusted))?;
    let pulled = pulled.with_context(|| reference.to_string())?;
    if let Some(moved) = &pulled.provenance.moved {
        output::complain(format_args!("{reference}: the tag has {moved}"));
    }
    Ok(pulled)
}

/// Prints who has signed it; nobody is an error.
fn show(what: &str, provenance: &Provenance) -> anyhow::Result<()> {
    if provenance.signers.is_empty() {
        bail!("{what}: {}", provenance.unsigned.as_deref().unwrap_or("it has no signature"));
    }
    for signer in &provenance.signers {
        output::line(format_args!("{what} is signed by {signer}"))?;
    }
    Ok(())
}

fn read_keys(files: &[PathBuf]) -> anyhow::Result<Vec<TrustedKey>> {
    let mut trusted = Vec::new();
    for file in files {
        let name = file.display().to_string();
        let keys = PublicKey::read_file(file).with_context(|| format!("--key {name}"))?;
        trusted.extend(keys.into_iter().map(|key| TrustedKey { name: name.clone(), key }));
    }
    Ok(trusted)
}
