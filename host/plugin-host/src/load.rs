//! Loads a plugin from wherever its reference says.

use std::path::Path;

use super::artifact::{Artifact, ArtifactError, BuiltIn};
use super::reference::PluginReference;
use super::registry::Registries;
use super::signature::TrustedKey;

/// Loads a plugin. What is slow to get is kept in the cache directory: what registries sent, and compiled forms but for those of
/// plugins that are built in. Signatures are looked for and verified if there are keys ([`super::Grants::trusted_keys`]); whether
/// they are needed is for the grants to say. The error is one line for an operator.
pub async fn load(
    reference: &PluginReference,
    cache: &Path,
    built_in: &'static [BuiltIn],
    trusted: &[TrustedKey],
) -> Result<Artifact, ArtifactError> {
    load_with(&Registries::of_this_node(), reference, cache, built_in, trusted).await
}

/// The same with registries that are talked to in another way.
pub(super) async fn load_with(
    registries: &Registries,
    reference: &PluginReference,
    cache: &Path,
    built_in: &'static [BuiltIn],
    trusted: &[TrustedKey],
) -> Result<Artifact, ArtifactError> {
    let cache = cache.to_owned();
    let outcome = match reference {
        PluginReference::File { path, pin } => {
            let (path, pin, trusted) = (path.clone(), *pin, trusted.to_owned());
            let load = move || Artifact::load_pinned(&path, pin, &cache, built_in, &trusted);
            tokio::task::spawn_blocking(load).await
        }
        PluginReference::Registry(wanted) => {
            let pulled = registries.pull(wanted, &cache, trusted).await;
            let pulled = pulled.map_err(|error| ArtifactError::Registry {
                reference: Box::new(wanted.clone()),
                error: error.into(),
            })?;
            let wanted = wanted.clone();
            tokio::task::spawn_blocking(move || {
                let (reference, provenance) = (pulled.reference.clone(), pulled.provenance.clone());
                let artifact = Artifact::pulled(reference, &pulled.component, provenance, &cache, built_in)?;
                Registries::remember(&pulled, &wanted, &cache);
                Ok(artifact)
            })
            .await
        }
    };
    outcome.map_err(|_| ArtifactError::Thread { reference: Box::new(reference.clone()) })?
}
