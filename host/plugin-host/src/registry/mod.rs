//! Plugins in OCI registries: pulled, checked by their digests, and kept in the cache directory. What is pinned and cached needs no
//! registry any more; a tag whose registry is away means what it meant last.
//!
//! The artifact is the one of the CNCF's "Wasm OCI Artifact Layout": a manifest with one layer, which is the component.

mod auth;
mod cache;
mod client;
mod credentials;
mod error;
mod manifest;
mod place;

use std::path::{Path, PathBuf};

use tracing::{info, warn};

pub use error::RegistryError;
use flannel_cloud::http::{CleartextPolicy, Http, Timeouts};

use super::digest::Digest;
use super::reference::{RegistryReference, Version};
use cache::Cache;
use client::Client;

/// How registries are talked to.
pub struct Registries {
    http: Http,
    docker_config: Option<PathBuf>,
}

/// A component that was pulled.
pub struct Pulled {
    /// What was asked for, pinned.
    pub reference: RegistryReference,
    /// The component.
    pub component: Vec<u8>,
    /// The manifest's digest, if a registry has just named it for the tag.
    news: Option<Digest>,
}

impl Registries {
    /// With this node's certificate authorities, and the credentials that are in Docker's config file.
    pub fn of_this_node() -> Self {
        let authorities = flannel_base::ca_bundle::file();
        Self {
            http: Http::new(authorities, CleartextPolicy::Loopback, Timeouts::default()),
            docker_config: credentials::usual_file(),
        }
    }

    /// Brings a component, from the cache where that is enough. Nothing comes out that is not what its digests say.
    pub async fn pull(&self, wanted: &RegistryReference, cache: &Path) -> Result<Pulled, RegistryError> {
        let cache = Cache::new(cache);
        if let Version::Digest { digest, .. } = wanted.version {
            let component = match cached(&cache, digest).await {
                Some(component) => component,
                None => self.fetch(wanted, &cache).await?.1,
            };
            return Ok(Pulled { reference: wanted.clone(), component, news: None });
        }
        match self.fetch(wanted, &cache).await {
            Ok((digest, component)) => {
                let reference = wanted.pinned(digest);
                Ok(Pulled { reference, component, news: Some(digest) })
            }
            Err(error) if error.is_away() => {
                let Some(digest) = cache.last_known(wanted) else { return Err(error) };
                let Some(component) = cached(&cache, digest).await else { return Err(error) };
                let reference = wanted.pinned(digest);
                warn!(%reference, "plugin {wanted}: {error}; going on with what the tag meant last, from the cache");
                Ok(Pulled { reference, component, news: None })
            }
            Err(error) => Err(error),
        }
    }

    /// Remembers what a tag means now. To be called when the component has turned out to be usable, so that no other is
    /// fallen back to.
    pub fn remember(pulled: &Pulled, wanted: &RegistryReference, cache: &Path) {
        let Some(digest) = pulled.news else { return };
        Cache::new(cache).remember(wanted, digest);
        warn!(
            "plugin {wanted} is not pinned: what the tag names is run; to run this one only, write {}",
            pulled.reference
        );
    }

    /// Publishes a component under a tag. Answers the reference, pinned.
    pub async fn push(
        &self,
        component: Vec<u8>,
        to: &RegistryReference,
    ) -> Result<RegistryReference, RegistryError> {
        let Version::Tag(tag) = &to.version else { return Err(RegistryError::NoTag) };
        let config = manifest::config(&component);
        let (digest, size) = (Digest::of(&component), component.len());
        let manifest = manifest::compose(&config, digest, size);
        let mut client = Client::new(&self.http, to, self.docker_config.as_deref(), "pull,push")?;
        client.put_blob(component).await?;
        client.put_blob(config).await?;
        let digest = Digest::of(&manifest);
        client.put_manifest(tag, manifest).await?;
        Ok(to.pinned(digest))
    }

    /// From the registry, and into the cache.
    async fn fetch(
        &self,
        wanted: &RegistryReference,
        cache: &Cache,
    ) -> Result<(Digest, Vec<u8>), RegistryError> {
        let whole = self.http.times().whole;
        let outcome = tokio::time::timeout(whole, self.fetch_patiently(wanted, cache)).await;
        outcome.unwrap_or_else(|_| Err(RegistryError::TooSlow { registry: wanted.registry(), time: whole }))
    }

    async fn fetch_patiently(
        &self,
        wanted: &RegistryReference,
        cache: &Cache,
    ) -> Result<(Digest, Vec<u8>), RegistryError> {
        let mut client = Client::new(&self.http, wanted, self.docker_config.as_deref(), "pull")?;
        let (digest, manifest) = client.manifest(&wanted.version).await?;
        let layer = manifest::layer(&manifest)?;
        let again = cache.clone();
        let component = match run_blocking(move || again.blob(layer.digest)).await {
            Some(component) => component,
            None => client.blob(&layer).await?,
        };
        let cache = cache.clone();
        let keep = move || {
            cache.keep(digest, &manifest, layer.digest, &component);
            component
        };
        let component = run_blocking(keep).await;
        info!(registry = wanted.registry(), %digest, bytes = component.len(), "plugin fetched");
        Ok((digest, component))
    }
}

async fn cached(cache: &Cache, manifest: Digest) -> Option<Vec<u8>> {
    let cache = cache.clone();
    run_blocking(move || cache.component(manifest)).await
}

/// Does what takes its time with a disk or with many bytes on a thread for that.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// What registries write, without a registry: a manifest, a challenge and a token server's reply. Answers the errors in words.
#[cfg(feature = "fuzz")]
pub(crate) fn read_answers(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let _ = (auth::Challenge::parse(&text), auth::token(bytes));
    manifest::layer(bytes).err().map(|error| error.to_string()).into_iter().collect()
}

#[cfg(test)]
mod tests;
