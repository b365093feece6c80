//! `flanneld plugin push` and `plugin sign`: what authors do with a plugin that is ready.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use flannel_base::atomic_file::{self, Mode};
use flannel_plugin_devkit as devkit;
use flannel_plugin_host::{
    Digest, Grants, Loader, PASSWORD_VARIABLE, PluginReference, PrivateKey, Publication, Registries,
    RegistryReference, SIGNATURE_EXTENSION, beside_name, read_plugin,
};

use super::{output, wait_for};

/// Publishes a component, and signs it if there is a key.
pub(super) fn push(
    component: &Path,
    to: &RegistryReference,
    key: Option<&Path>,
    loader: &Loader,
) -> anyhow::Result<()> {
    // Before anything is published.
    let key = key.map(private_key).transpose()?;
    // What no daemon would load is not worth publishing.
    let reference = PluginReference::File { path: component.to_owned(), pin: None };
    let artifact = super::plugin::load(&reference, loader)?;
    let described = devkit::inspect::inspect(&artifact, &Grants::everything()).map_err(anyhow::Error::msg)?;
    let bytes = read_plugin(component).with_context(|| format!("cannot read {}", component.display()))?;
    let changed = Digest::of(&bytes).hex() != artifact.digest();
    ensure!(!changed, "{}: it has just been written to: once more", component.display());
    let with =
        Publication { name: Some(described.name), version: Some(described.version), key: key.as_ref() };
    let pushed = wait_for(Registries::of_this_node().push(bytes, to, with))?;
    Ok(output::line(pushed.with_context(|| to.to_string())?)?)
}

/// Signs a file, or what is in a registry already.
pub(super) fn sign(component: &PluginReference, key: &Path, output: Option<&Path>) -> anyhow::Result<()> {
    let key = private_key(key)?;
    match component {
        PluginReference::File { path, pin } => {
            let shown = path.display();
            let bytes = read_plugin(path).with_context(|| format!("cannot read {shown}"))?;
            let digest = Digest::of(&bytes);
            ensure!(pin.is_none_or(|pin| pin == digest), "{shown} has {digest}: it is not signed");
            let file = output.map_or_else(|| beside_name(path, SIGNATURE_EXTENSION), Path::to_owned);
            atomic_file::replace(&file, key.sign_file(&bytes)?.as_bytes(), Mode::Exactly(0o644))
                .with_context(|| format!("cannot write {}", file.display()))?;
            let (algorithm, id) = (key.public().algorithm(), key.public().id());
            Ok(output::line(format_args!(
                "{digest} signed with the {algorithm} key {id}: {}",
                file.display()
            ))?)
        }
        PluginReference::Registry(_) if output.is_some() => {
            bail!("the signature of what is in a registry goes into the registry: leave --output out")
        }
        PluginReference::Registry(reference) => {
            let signed = wait_for(Registries::of_this_node().sign(reference, &key))?;
            Ok(output::line(signed.with_context(|| reference.to_string())?)?)
        }
    }
}

/// A key to sign with; its password is in the environment, if it needs one.
pub(super) fn private_key(file: &Path) -> anyhow::Result<PrivateKey> {
    let password = std::env::var(PASSWORD_VARIABLE).ok();
    Ok(PrivateKey::read(file, password.as_deref())?)
}
