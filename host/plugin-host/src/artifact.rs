//! A plugin as a file or built in: read, checked, compiled, and ready to be started.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::Component;

use super::compiled;
use super::debuginfo::Lines;
use super::digest::Digest;
use super::engine;
use super::imports::{self, IncompatibleComponent};
use super::origin::Origin;
use super::reference::{PluginReference, RegistryReference};
use super::registry::RegistryError;

/// Bytes of the largest plugin; components with an interpreter inside have some 40 MB.
pub(crate) const MAX_COMPONENT_BYTES: usize = 256 << 20;

/// A plugin that is part of the binary.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// The value of `Backend.Type` that it is for.
    pub backend_type: &'static str,
    /// The component.
    pub component: &'static [u8],
    /// Its compiled form (see [`super::compile_for_embedding`]); without, or if it does not fit, it is compiled at the start.
    pub compiled: Option<&'static [u8]>,
}

/// Where a plugin came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Part of the binary, for this backend type.
    BuiltIn(&'static str),
    /// A file.
    File(PathBuf),
    /// A registry; pinned, even if what was asked for was not.
    Registry(Box<RegistryReference>),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(backend_type) => write!(f, "built-in {backend_type}"),
            Self::File(path) => path.display().fmt(f),
            Self::Registry(reference) => reference.fmt(f),
        }
    }
}

/// Why a plugin cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// No plugin is built in for the backend type.
    #[error(
        "Backend.Type {wanted:?}: no built-in plugin for it (there are: {there}); name one with --plugin FILE"
    )]
    NoBuiltIn {
        /// The backend type.
        wanted: String,
        /// The types that there are plugins for.
        there: String,
    },
    /// The file cannot be read.
    #[error("plugin {path}: cannot be read: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The registry does not give it.
    #[error("plugin {reference}: {error}")]
    Registry {
        /// What was asked for.
        reference: Box<RegistryReference>,
        /// Why.
        error: Box<RegistryError>,
    },
    /// The file is another than the one that it is pinned to.
    #[error("plugin {path}: it is pinned to {wanted}, and the file has {found}")]
    Pinned {
        /// The file.
        path: PathBuf,
        /// What its digest has to be.
        wanted: Digest,
        /// What it is.
        found: Digest,
    },
    /// The thread that loads it ended.
    #[error("plugin {reference}: the thread that loads it ended")]
    Thread {
        /// What was to be loaded.
        reference: Box<PluginReference>,
    },
    /// The file is no component.
    #[error("plugin {source}: {what}, not a WebAssembly component; {hint}")]
    NotAComponent {
        /// Where it came from.
        source: Source,
        /// What it is instead.
        what: &'static str,
        /// How to get a component.
        hint: &'static str,
    },
    /// The component is invalid.
    #[error("plugin {source}: not a valid component: {reason}")]
    Invalid {
        /// Where it came from.
        source: Source,
        /// What is wrong with it.
        reason: String,
    },
    /// The component asks for what this host has not, or lacks what this host needs.
    #[error("plugin {source}: {misfit}")]
    Misfit {
        /// Where it came from.
        source: Source,
        /// What does not fit.
        misfit: IncompatibleComponent,
    },
}

// `source` above is a place, not a cause, which `thiserror` would take it for.
impl std::error::Error for Source {}

/// A compiled plugin.
pub struct Artifact {
    source: Source,
    pub(super) origin: Origin,
    digest: String,
    size: usize,
    pub(super) engine: Engine,
    pub(super) component: Component,
    pub(super) lines: Arc<Lines>,
}

impl Artifact {
    /// Loads a file; its compiled form comes from, or goes to, the cache directory.
    pub fn load(path: &Path, cache: &Path) -> Result<Self, ArtifactError> {
        Self::load_pinned(path, None, cache, &[])
    }

    /// The same; a file with another digest than the pin is refused. Of a plugin that is built in, too, the compiled form is there.
    pub(super) fn load_pinned(
        path: &Path,
        pin: Option<Digest>,
        cache: &Path,
        built_in: &[BuiltIn],
    ) -> Result<Self, ArtifactError> {
        let unreadable = |error| ArtifactError::Unreadable { path: path.to_owned(), error };
        let meta = std::fs::metadata(path).map_err(unreadable)?;
        if !meta.is_file() || meta.len() > MAX_COMPONENT_BYTES as u64 {
            let what = if meta.is_file() { "larger than 256 MiB" } else { "not a regular file" };
            return Err(unreadable(io::Error::other(what)));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        if let Some(wanted) = pin {
            let found = Digest::of(&bytes);
            if found != wanted {
                return Err(ArtifactError::Pinned { path: path.to_owned(), wanted, found });
            }
        }
        let artifact = Self::new(Source::File(path.to_owned()), &bytes, |engine, digest| {
            embedded(engine, &bytes, digest, built_in)
                .map_or_else(|| compiled::cached(engine, &bytes, digest, cache), Ok)
        })?;
        Ok(artifact.recognised(&bytes, built_in))
    }

    /// Takes what came from a registry; its compiled form comes from, or goes to, the cache directory.
    pub(super) fn pulled(
        reference: RegistryReference,
        bytes: &[u8],
        cache: &Path,
        built_in: &[BuiltIn],
    ) -> Result<Self, ArtifactError> {
        let artifact = Self::new(Source::Registry(Box::new(reference)), bytes, |engine, digest| {
            embedded(engine, bytes, digest, built_in)
                .map_or_else(|| compiled::cached(engine, bytes, digest, cache), Ok)
        })?;
        Ok(artifact.recognised(bytes, built_in))
    }

    /// Takes the built-in plugin for a backend type.
    pub fn built_in(backend_type: &str, all: &[BuiltIn]) -> Result<Self, ArtifactError> {
        let Some(found) = all.iter().find(|plugin| plugin.backend_type == backend_type) else {
            let there: Vec<&str> = all.iter().map(|plugin| plugin.backend_type).collect();
            let there = if there.is_empty() { "none in this build".to_owned() } else { there.join(", ") };
            return Err(ArtifactError::NoBuiltIn { wanted: backend_type.to_owned(), there });
        };
        Self::new(Source::BuiltIn(found.backend_type), found.component, |engine, digest| {
            embedded(engine, found.component, digest, all)
                .map_or_else(|| Component::from_binary(engine, found.component), Ok)
        })
    }

    fn new(
        source: Source,
        bytes: &[u8],
        compile: impl FnOnce(&Engine, &Digest) -> wasmtime::Result<Component>,
    ) -> Result<Self, ArtifactError> {
        check_kind(&source, bytes)?;
        let invalid = |error: wasmtime::Error| ArtifactError::Invalid {
            source: source.clone(),
            reason: error.root_cause().to_string().lines().next().unwrap_or_default().to_owned(),
        };
        let digest = Digest::of(bytes);
        let engine = engine::native().map_err(invalid)?;
        let component = compile(&engine, &digest).map_err(invalid)?;
        imports::check(&engine, &component, imports::served)
            .map_err(|misfit| ArtifactError::Misfit { source: source.clone(), misfit })?;
        let lines = Arc::new(Lines::of(bytes));
        let origin = Origin::of(&source);
        Ok(Self { digest: digest.hex(), size: bytes.len(), source, origin, engine, component, lines })
    }

    fn recognised(self, bytes: &[u8], built_in: &[BuiltIn]) -> Self {
        Self { origin: self.origin.recognised(bytes, built_in), ..self }
    }

    /// Where it came from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// SHA-256 of the component, as 64 hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The interfaces that it imports, without package and version.
    pub fn imports(&self) -> Vec<String> {
        imports::names(&self.engine, &self.component)
    }

    /// Bytes of the component.
    pub fn size(&self) -> usize {
        self.size
    }
}

/// The compiled form of a component that is built in, too.
fn embedded(engine: &Engine, bytes: &[u8], digest: &Digest, built_in: &[BuiltIn]) -> Option<Component> {
    let same = built_in.iter().find(|plugin| plugin.component == bytes)?;
    compiled::load(engine, same.compiled?, digest)
}

/// Tells what people take for a component from what is one, by the first bytes: a magic number, then version and layer.
fn check_kind(source: &Source, bytes: &[u8]) -> Result<(), ArtifactError> {
    const MAKE: &str = "make one of it with `flanneld plugin componentize`";
    const BUILD: &str = "a plugin is what `cargo xtask plugins` or `wasm-tools component new` writes";
    let (what, hint) = match bytes {
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => return Ok(()),
        [b'\0', b'a', b's', b'm', _, _, 0, 0, ..] => ("a core WebAssembly module", MAKE),
        [] => ("an empty file", BUILD),
        [b'\x7f', b'E', b'L', b'F', ..] => ("a native program or library", BUILD),
        [b'(', ..] => ("WebAssembly in text form", "turn it into binary form with `wasm-tools parse`"),
        _ => ("something else", BUILD),
    };
    Err(ArtifactError::NotAComponent { source: source.clone(), what, hint })
}
