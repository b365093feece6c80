//! A plugin as a file or built in: read, checked, compiled, and ready to be started.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use flannel_base::text::one_line;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::compile::{self, CompileError};
use super::debuginfo::Lines;
use super::digest::Digest;
use super::engine;
use super::grants::GrantError;
use super::imports::{self, IncompatibleComponent};
use super::origin::Origin;
use super::outline::{Excess, Outline};
use super::reference::{PluginReference, RegistryReference};
use super::registry::RegistryError;
use super::signature::Provenance;

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
    /// The keys of signers cannot be read.
    #[error(transparent)]
    Keys(#[from] GrantError),
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
    #[error("plugin {place}: {what}, not a WebAssembly component; {hint}")]
    NotAComponent {
        /// Where it came from.
        place: Source,
        /// What it is instead.
        what: &'static str,
        /// How to get a component.
        hint: &'static str,
    },
    /// The component is invalid.
    #[error("plugin {place}: not a valid component: {reason}")]
    Invalid {
        /// Where it came from.
        place: Source,
        /// What is wrong with it.
        reason: String,
    },
    /// An instance of it would be too large.
    #[error("plugin {place}: {excess}")]
    TooLarge {
        /// Where it came from.
        place: Source,
        /// What there is too much of.
        excess: Excess,
    },
    /// It asks for what it cannot be granted, whatever it calls itself.
    #[error("plugin {place}: {error}")]
    NotGranted {
        /// Where it came from.
        place: Source,
        /// What it asks for.
        error: Box<GrantError>,
    },
    /// It cannot be compiled within its limits.
    #[error("plugin {place}: {error}")]
    NotCompiled {
        /// Where it came from.
        place: Source,
        /// Why not.
        error: Box<CompileError>,
    },
    /// The component asks for what this host has not, or lacks what this host needs.
    #[error("plugin {place}: {misfit}")]
    Misfit {
        /// Where it came from.
        place: Source,
        /// What does not fit.
        misfit: IncompatibleComponent,
    },
}

/// A compiled plugin.
pub struct Artifact {
    source: Source,
    pub(super) origin: Origin,
    digest: String,
    size: usize,
    pub(super) outline: Outline,
    provenance: Provenance,
    pub(super) engine: Engine,
    pub(super) component: Component,
    pub(super) lines: Arc<Lines>,
}

impl Artifact {
    /// Takes the built-in plugin for a backend type.
    pub fn built_in(backend_type: &str, all: &[BuiltIn]) -> Result<Self, ArtifactError> {
        let Some(found) = all.iter().find(|plugin| plugin.backend_type == backend_type) else {
            let there: Vec<&str> = all.iter().map(|plugin| plugin.backend_type).collect();
            let there = if there.is_empty() { "none in this build".to_owned() } else { there.join(", ") };
            return Err(ArtifactError::NoBuiltIn { wanted: backend_type.to_owned(), there });
        };
        let raw = RawPlugin::new(Source::BuiltIn(found.backend_type), found.component.into())?;
        if let Some(component) = raw.embedded(all) {
            return Ok(raw.with(component));
        }
        let component =
            Component::from_binary(&raw.engine, &raw.bytes).map_err(|error| raw.invalid(&error))?;
        Ok(raw.with(component))
    }

    /// Where it came from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// SHA-256 of the component, as 64 hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Who has signed it, of those whose keys were given, and what is to be said of where it comes from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The interfaces that it imports, without package and version.
    pub fn imports(&self) -> Vec<String> {
        imports::names(&self.outline)
    }

    /// Whether it runs commands of the network config's.
    pub fn runs_commands(&self) -> bool {
        self.imports().iter().any(|import| import == imports::COMMANDS)
    }

    /// Bytes of the component.
    pub fn size(&self) -> usize {
        self.size
    }
}

/// A component that has been read and found fit, and is not compiled yet.
pub(super) struct RawPlugin {
    source: Source,
    pub bytes: Cow<'static, [u8]>,
    pub digest: Digest,
    pub engine: Engine,
    pub outline: Outline,
    provenance: Provenance,
    origin: Origin,
}

impl RawPlugin {
    /// Looks at a component without compiling it.
    pub(super) fn new(source: Source, bytes: Cow<'static, [u8]>) -> Result<Self, ArtifactError> {
        check_kind(&source, &bytes)?;
        let invalid = |reason: String| ArtifactError::Invalid { place: source.clone(), reason };
        let outline = Outline::of(&bytes).map_err(|error| invalid(one_line(&error.to_string())))?;
        imports::check(&outline, imports::served)
            .map_err(|misfit| ArtifactError::Misfit { place: source.clone(), misfit })?;
        if let Some(excess) = outline.excess() {
            return Err(ArtifactError::TooLarge { place: source, excess });
        }
        let engine = engine::native().map_err(|error| invalid(one_line(&error.root_cause().to_string())))?;
        let (provenance, origin) = (Provenance::default(), Origin::of(&source));
        Ok(Self { digest: Digest::of(&bytes), source, bytes, engine, outline, provenance, origin })
    }

    /// The same, with what is known of its signatures.
    pub(super) fn signed(self, provenance: Provenance) -> Self {
        Self { provenance, ..self }
    }

    /// The same; if it is one that is built in, too, it has that one's origin.
    pub(super) fn recognised(self, built_in: &[BuiltIn]) -> Self {
        Self { origin: self.origin.recognised(&self.bytes, built_in), ..self }
    }

    /// What is known of its signatures.
    pub(super) fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Where it came from.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// The compiled form of a component that is built in, too.
    pub(super) fn embedded(&self, built_in: &[BuiltIn]) -> Option<Component> {
        let same = built_in.iter().find(|plugin| plugin.component == &*self.bytes)?;
        compile::load(&self.engine, same.compiled?, &self.digest)
    }

    /// With its code it is complete.
    pub(super) fn with(self, component: Component) -> Artifact {
        Artifact {
            lines: Arc::new(Lines::of(&self.bytes)),
            digest: self.digest.hex(),
            size: self.bytes.len(),
            source: self.source,
            outline: self.outline,
            provenance: self.provenance,
            origin: self.origin,
            engine: self.engine,
            component,
        }
    }

    /// Why its code is of no use.
    pub(super) fn invalid(&self, error: &wasmtime::Error) -> ArtifactError {
        let reason = error.root_cause().to_string();
        let reason = one_line(reason.lines().next().unwrap_or_default());
        ArtifactError::Invalid { place: self.source.clone(), reason }
    }
}

/// Tells what people take for a component from what is one, by the first bytes: a magic number, then version and layer.
fn check_kind(source: &Source, bytes: &[u8]) -> Result<(), ArtifactError> {
    const MAKE: &str = "make one of it with `flanneld plugin componentize`";
    const BUILD: &str = "a plugin is what `cargo xtask plugins` or `flanneld plugin componentize` writes";
    let (what, hint) = match bytes {
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => return Ok(()),
        [b'\0', b'a', b's', b'm', _, _, 0, 0, ..] => ("a core WebAssembly module", MAKE),
        [] => ("an empty file", BUILD),
        [b'\x7f', b'E', b'L', b'F', ..] => ("a native program or library", BUILD),
        [b'(', ..] => ("WebAssembly in text form", "turn it into binary form with `wasm-tools parse`"),
        _ => ("something else", BUILD),
    };
    Err(ArtifactError::NotAComponent { place: source.clone(), what, hint })
}
