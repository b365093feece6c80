//! Loads a plugin from wherever its reference says.

use std::io;
use std::path::Path;
use std::sync::Arc;

use flannel_base::{regular_file, trusted_file};
use wasmtime::component::Component;

use super::artifact::{Artifact, ArtifactError, BuiltIn, RawPlugin, Source};
use super::code_cache::CodeCache;
use super::compile::{Compiler, compile_here};
use super::digest::Digest;
use super::grants::Grants;
use super::reference::PluginReference;
use super::registry::Registries;
use super::signature::{self, TrustedKey};

/// How plugins are loaded: what is asked before anything is compiled, who compiles, and where what is slow to get is kept.
#[derive(Clone)]
pub struct Loader {
    cache: CodeCache,
    compiler: Compiler,
    built_in: &'static [BuiltIn],
    grants: Option<Arc<Grants>>,
    keys: Vec<TrustedKey>,
}

impl Loader {
    /// What registries sent, and compiled forms, are kept in the cache directory; the key by which the latter are known to be ours is in
    /// the state directory.
    pub fn new(cache: &Path, state: &Path, compiler: Compiler) -> Self {
        Self { cache: CodeCache::new(cache, state), compiler, built_in: &[], grants: None, keys: Vec::new() }
    }

    /// With plugins that are built in, whose compiled forms are there.
    #[must_use]
    pub fn with_built_in(self, built_in: &'static [BuiltIn]) -> Self {
        Self { built_in, ..self }
    }

    /// The plugins that are built in.
    pub fn built_in(&self) -> &'static [BuiltIn] {
        self.built_in
    }

    /// With grants: what cannot have what it imports is not compiled.
    #[must_use]
    pub fn with_grants(self, grants: Arc<Grants>) -> Self {
        Self { grants: Some(grants), ..self }
    }

    /// With keys that signatures are looked for and verified with, beside those that grants go by. Whether they are needed is for the
    /// grants to say.
    #[must_use]
    pub fn with_keys(self, keys: Vec<TrustedKey>) -> Self {
        Self { keys, ..self }
    }

    /// Loads a plugin. Whoever drops the future ends what it is waiting for: a registry, or the compiler. The error is one line for an
    /// operator.
    pub async fn load(&self, reference: &PluginReference) -> Result<Artifact, ArtifactError> {
        self.load_with(&Registries::of_this_node(), reference).await
    }

    /// The same with registries that are talked to in another way.
    pub(super) async fn load_with(
        &self,
        registries: &Registries,
        reference: &PluginReference,
    ) -> Result<Artifact, ArtifactError> {
        let trusted = self.trusted_keys()?;
        match reference {
            PluginReference::File { path, pin } => {
                let (path, pin) = (path.clone(), *pin);
                self.complete(reference, move || read(&path, pin, &trusted)).await
            }
            PluginReference::Registry(wanted) => {
                let pulled = registries.pull(wanted, self.cache.directory(), &trusted).await;
                let mut pulled = pulled.map_err(|error| ArtifactError::Registry {
                    reference: Box::new(wanted.clone()),
                    error: error.into(),
                })?;
                let source = Source::Registry(Box::new(pulled.reference.clone()));
                let bytes = std::mem::take(&mut pulled.component);
                let provenance = pulled.provenance.clone();
                let raw = move || Ok(RawPlugin::new(source, bytes.into())?.signed(provenance));
                let artifact = self.complete(reference, raw).await?;
                Registries::remember(&pulled, wanted, self.cache.directory());
                Ok(artifact)
            }
        }
    }

    /// Looks at a component, asks whether it may have what it wants, and gets its code.
    async fn complete(
        &self,
        reference: &PluginReference,
        raw: impl FnOnce() -> Result<RawPlugin, ArtifactError> + Send + 'static,
    ) -> Result<Artifact, ArtifactError> {
        let aside = self.clone();
        let ready = on_a_thread(reference, move || {
            let raw = raw()?.recognised(aside.built_in);
            aside.check_grants(&raw)?;
            let component = aside.compiled(&raw);
            Ok((raw, component))
        });
        let (raw, component) = ready.await?;
        if let Some(component) = component {
            return on_a_thread(reference, move || Ok(raw.with(component))).await;
        }
        let code = self.compiler.compile(&raw.bytes, &raw.outline.size()).await;
        let code = code.map_err(|error| ArtifactError::NotCompiled {
            place: raw.source().clone(),
            error: Box::new(error),
        })?;
        let cache = self.cache.clone();
        on_a_thread(reference, move || {
            let component =
                cache.take(&raw.engine, &raw.digest, &code).map_err(|error| raw.invalid(&error))?;
            Ok(raw.with(component))
        })
        .await
    }

    fn trusted_keys(&self) -> Result<Vec<TrustedKey>, ArtifactError> {
        let mut keys = self.keys.clone();
        if let Some(grants) = &self.grants {
            keys.extend(grants.trusted_keys()?);
        }
        Ok(keys)
    }

    fn check_grants(&self, raw: &RawPlugin) -> Result<(), ArtifactError> {
        let Some(grants) = &self.grants else { return Ok(()) };
        let imports = super::imports::names(&raw.outline);
        grants.might_have(&raw.digest.hex(), &imports, raw.provenance()).map_err(|error| {
            ArtifactError::NotGranted { place: raw.source().clone(), error: Box::new(error) }
        })
    }

    /// Its code, if it is there already.
    fn compiled(&self, raw: &RawPlugin) -> Option<Component> {
        raw.embedded(self.built_in).or_else(|| self.cache.load(&raw.engine, &raw.digest))
    }

    /// Loads a file, and compiles it in this process: for tests.
    pub fn load_here(&self, path: &Path) -> Result<Artifact, ArtifactError> {
        let raw = read(path, None, &self.keys)?.recognised(self.built_in);
        if let Some(component) = self.compiled(&raw) {
            return Ok(raw.with(component));
        }
        let code = compile_here(&raw.bytes).map_err(|error| ArtifactError::NotCompiled {
            place: raw.source().clone(),
            error: Box::new(error),
        })?;
        let component =
            self.cache.take(&raw.engine, &raw.digest, &code).map_err(|error| raw.invalid(&error))?;
        Ok(raw.with(component))
    }
}

/// Does what takes its time with a disk or with many bytes on a thread for that.
async fn on_a_thread<T: Send + 'static>(
    reference: &PluginReference,
    work: impl FnOnce() -> Result<T, ArtifactError> + Send + 'static,
) -> Result<T, ArtifactError> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.map_err(|_| ArtifactError::Thread { reference: Box::new(reference.clone()) })?
}

/// Reads a file: a regular one, whoever can write to it; who else can is noted. With a pin, another is refused.
fn read(path: &Path, pin: Option<Digest>, trusted: &[TrustedKey]) -> Result<RawPlugin, ArtifactError> {
    let unreadable = |error| ArtifactError::Unreadable { path: path.to_owned(), error };
    let file = regular_file::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => unreadable(io::Error::other("not a regular file")),
        _ => unreadable(error),
    })?;
    let bytes = signature::read_opened(&file).map_err(unreadable)?;
    if let Some(wanted) = pin {
        let found = Digest::of(&bytes);
        if found != wanted {
            return Err(ArtifactError::Pinned { path: path.to_owned(), wanted, found });
        }
    }
    let mut provenance = signature::beside(path, &bytes, trusted);
    // With a pin it is this component, or none.
    provenance.exchangeable = if pin.is_none() { trusted_file::doubt(path, &file) } else { None };
    Ok(RawPlugin::new(Source::File(path.to_owned()), bytes.into())?.signed(provenance))
}
