//! Plugins in OCI registries: pulled, checked by their digests, and kept in the cache directory. What is pinned and cached needs no
//! registry any more; a tag whose registry is away means what it meant last.
//!
//! The artifact is the one of the CNCF's "Wasm OCI Artifact Layout": a manifest with one layer, which is the component.

mod auth;
mod cache;
mod client;
mod credentials;
mod error;
mod history;
mod manifest;
mod place;
mod signatures;

use std::path::{Path, PathBuf};

use tracing::{info, warn};

pub use error::RegistryError;
use flannel_cloud::http::{CleartextPolicy, Http, Timeouts};

use super::digest::Digest;
use super::reference::{RegistryReference, Version};
use super::signature::{PrivateKey, Provenance, Subject, TrustedKey, none_of};
use cache::Cache;
use client::Client;
use history::{History, Meaning};
use manifest::Annotations;
use signatures::Found;

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
    /// Who has signed it, and what is to be said of its tag.
    pub provenance: Provenance,
    /// What a registry has just said that the tag means.
    news: Option<Meaning>,
}

/// What a component is published with.
#[derive(Default)]
pub struct Publication<'a> {
    /// As the plugin calls itself.
    pub name: Option<String>,
    /// Its version, by which others see that a tag has moved back.
    pub version: Option<String>,
    /// To sign it with.
    pub key: Option<&'a PrivateKey>,
}

/// A WIT package, as it is published.
pub struct WitPackage {
    /// In its binary form, with the packages that it needs.
    pub bytes: Vec<u8>,
    /// `flannel:backend`
    pub name: String,
    /// Its version; none: it has none.
    pub version: Option<String>,
    /// Its interfaces: `flannel:backend/links@0.1.0`.
    pub interfaces: Vec<String>,
}

/// A component as it came, with its manifest.
struct Fetched {
    digest: Digest,
    manifest: Vec<u8>,
    component: Vec<u8>,
    from: Origin,
}

/// Where it came from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Registry,
    Cache,
    /// The cache, since the registry is away.
    CacheAlone,
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

    /// Brings a component, from the cache where that is enough. Nothing comes out that is not what its digests say. Signatures are
    /// looked for if there are keys.
    pub async fn pull(
        &self,
        wanted: &RegistryReference,
        cache: &Path,
        trusted: &[TrustedKey],
    ) -> Result<Pulled, RegistryError> {
        let cache = Cache::new(cache);
        let fetched = self.bring(wanted, &cache).await?;
        let reference = match wanted.version {
            Version::Tag(_) => wanted.pinned(fetched.digest),
            Version::Digest { .. } => wanted.clone(),
        };
        let mut provenance = self.provenance(wanted, &fetched, &cache, trusted).await;
        let mut news = None;
        if let Version::Tag(_) = wanted.version {
            let meaning = Meaning::new(fetched.digest, &Annotations::of(&fetched.manifest));
            provenance.moved = cache.history(wanted).and_then(|history| history.moved_back(&meaning));
            news = (fetched.from == Origin::Registry).then_some(meaning);
        }
        Ok(Pulled { reference, component: fetched.component, provenance, news })
    }

    async fn bring(&self, wanted: &RegistryReference, cache: &Cache) -> Result<Fetched, RegistryError> {
        if let Version::Digest { digest, .. } = wanted.version {
            return match cached(cache, digest, Origin::Cache).await {
                Some(fetched) => Ok(fetched),
                None => self.fetch(wanted, cache).await,
            };
        }
        match self.fetch(wanted, cache).await {
            Err(error) if error.is_away() => {
                let Some(digest) = cache.last_known(wanted) else { return Err(error) };
                let Some(fetched) = cached(cache, digest, Origin::CacheAlone).await else {
                    return Err(error);
                };
                let reference = wanted.pinned(digest);
                warn!(%reference, "plugin {wanted}: {error}; going on with what the tag meant last, from the cache");
                Ok(fetched)
            }
            outcome => outcome,
        }
    }

    /// Remembers what a tag means now. To be called when the component has turned out to be usable, so that no other is
    /// fallen back to.
    pub fn remember(pulled: &Pulled, wanted: &RegistryReference, cache: &Path) {
        if let Some(moved) = &pulled.provenance.moved {
            warn!("plugin {wanted}: the tag has {moved}; to run one version only, pin its digest");
        }
        let Some(news) = &pulled.news else { return };
        let cache = Cache::new(cache);
        cache.remember(wanted, news.digest());
        let history = cache.history(wanted);
        let now = History::with(history.clone(), news);
        if history.as_ref() != Some(&now) {
            cache.keep_history(wanted, &now);
        }
        warn!(
            "plugin {wanted} is not pinned: what the tag names is run; to run this one only, write {}",
            pulled.reference
        );
    }

    /// Publishes a component under a tag, and signs it if there is a key. Answers the reference, pinned.
    pub async fn push(
        &self,
        component: Vec<u8>,
        to: &RegistryReference,
        with: Publication<'_>,
    ) -> Result<RegistryReference, RegistryError> {
        let config = manifest::config(&component);
        self.publish(component, config, to, with).await
    }

    /// Publishes a WIT package under a tag, and signs it if there is a key. Answers the reference, pinned.
    pub async fn push_wit(
        &self,
        package: WitPackage,
        to: &RegistryReference,
        key: Option<&PrivateKey>,
    ) -> Result<RegistryReference, RegistryError> {
        let config = manifest::config_of_wit(&package.bytes, &package.interfaces);
        let with = Publication { name: Some(package.name), version: package.version, key };
        self.publish(package.bytes, config, to, with).await
    }

    async fn publish(
        &self,
        layer: Vec<u8>,
        config: Vec<u8>,
        to: &RegistryReference,
        with: Publication<'_>,
    ) -> Result<RegistryReference, RegistryError> {
        let Version::Tag(tag) = &to.version else { return Err(RegistryError::NoTag) };
        let (digest, size) = (Digest::of(&layer), layer.len());
        let annotations = Annotations { title: with.name, version: with.version, created: None };
        let manifest = manifest::compose(&config, digest, size, annotations);
        let mut client = self.pusher(to)?;
        client.put_blob(layer).await?;
        client.put_blob(config).await?;
        if let Some(key) = with.key {
            // Before the tag: who pulls it at once finds the signature, too. Some registries take no manifest that refers to one that is
            // not there, so that one comes first by its digest.
            client.put_manifest(&Digest::of(&manifest).to_string(), manifest.clone()).await?;
            signatures::sign(&mut client, &repository(to), &manifest, key).await?;
        }
        let digest = Digest::of(&manifest);
        client.put_manifest(tag, manifest).await?;
        Ok(to.pinned(digest))
    }

    /// Signs what is in a registry already. Answers the reference, pinned.
    pub async fn sign(
        &self,
        what: &RegistryReference,
        key: &PrivateKey,
    ) -> Result<RegistryReference, RegistryError> {
        let mut client = self.pusher(what)?;
        let (digest, manifest) = client.manifest(&what.version).await?;
        manifest::layer(&manifest)?;
        signatures::sign(&mut client, &repository(what), &manifest, key).await?;
        Ok(what.pinned(digest))
    }

    fn pusher<'a>(&'a self, to: &'a RegistryReference) -> Result<Client<'a>, RegistryError> {
        Client::new(&self.http, to, self.docker_config.as_deref(), "pull,push")
    }

    fn puller<'a>(&'a self, from: &'a RegistryReference) -> Result<Client<'a>, RegistryError> {
        Client::new(&self.http, from, self.docker_config.as_deref(), "pull")
    }

    /// Who has signed a component. The registry is asked if no signature in the cache is good.
    async fn provenance(
        &self,
        wanted: &RegistryReference,
        fetched: &Fetched,
        cache: &Cache,
        trusted: &[TrustedKey],
    ) -> Provenance {
        if trusted.is_empty() {
            return Provenance::default();
        }
        let subject = Subject::new(&fetched.manifest);
        let kept = cache.signatures(fetched.digest);
        let judged = Provenance::judge(&kept, &subject, trusted, || match kept.len() {
            0 => "it has no signature in the cache, and its registry is away".to_owned(),
            count => none_of(count),
        });
        if !judged.signers.is_empty() || fetched.from == Origin::CacheAlone {
            return judged;
        }
        let found = self.fetch_signatures(wanted, fetched).await;
        if !found.evidence.is_empty() {
            cache.keep_signatures(fetched.digest, &found.evidence);
        }
        Provenance::judge(&found.evidence, &subject, trusted, || {
            match (found.evidence.len(), &found.trouble) {
                (_, Some(error)) => format!("its signatures cannot be fetched: {error}"),
                (0, None) => "it has no signature in the registry".to_owned(),
                (count, None) => none_of(count),
            }
        })
    }

    async fn fetch_signatures(&self, wanted: &RegistryReference, fetched: &Fetched) -> Found {
        // A node that starts from its cache does not wait long for a registry that is away.
        let time = match fetched.from {
            Origin::Registry => self.http.times().whole,
            Origin::Cache | Origin::CacheAlone => self.http.times().answer,
        };
        let mut client = match self.puller(wanted) {
            Ok(client) => client,
            Err(error) => return Found { trouble: Some(error), ..Found::default() },
        };
        let outcome = tokio::time::timeout(time, signatures::fetch(&mut client, fetched.digest)).await;
        let slow = || RegistryError::TooSlow { registry: wanted.registry(), time };
        outcome.unwrap_or_else(|_| Found { trouble: Some(slow()), ..Found::default() })
    }

    /// From the registry, and into the cache.
    async fn fetch(&self, wanted: &RegistryReference, cache: &Cache) -> Result<Fetched, RegistryError> {
        let whole = self.http.times().whole;
        let outcome = tokio::time::timeout(whole, self.fetch_patiently(wanted, cache)).await;
        outcome.unwrap_or_else(|_| Err(RegistryError::TooSlow { registry: wanted.registry(), time: whole }))
    }

    async fn fetch_patiently(
        &self,
        wanted: &RegistryReference,
        cache: &Cache,
    ) -> Result<Fetched, RegistryError> {
        let mut client = self.puller(wanted)?;
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
            (manifest, component)
        };
        let (manifest, component) = run_blocking(keep).await;
        info!(registry = wanted.registry(), %digest, bytes = component.len(), "plugin fetched");
        Ok(Fetched { digest, manifest, component, from: Origin::Registry })
    }
}

/// The repository as cosign writes it into what it signs.
fn repository(reference: &RegistryReference) -> String {
    format!("{}/{}", reference.registry(), reference.repository)
}

async fn cached(cache: &Cache, digest: Digest, from: Origin) -> Option<Fetched> {
    let cache = cache.clone();
    let (manifest, component) = run_blocking(move || cache.component(digest)).await?;
    Some(Fetched { digest, manifest, component, from })
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
