//! What a tag meant: a registry, or who can write to it, can turn it back to a version with a known hole, and the old signatures are
//! still good. Where that happens it is said.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::manifest::Annotations;
use crate::digest::Digest;

/// Manifests of before that are remembered.
const MAX_EARLIER: usize = 32;
/// Bytes of the longest version; what is longer is none.
const MAX_BYTES: usize = 128;

/// One meaning of a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meaning {
    digest: Digest,
    /// As the manifest says: `org.opencontainers.image.version`.
    version: Option<String>,
    /// As the manifest says: `org.opencontainers.image.created`, in seconds since 1970.
    created: Option<i64>,
}

/// What a tag has meant so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct History {
    /// The newest.
    newest: Meaning,
    /// Others that came before it.
    earlier: Vec<Digest>,
}

impl Meaning {
    pub(super) fn new(digest: Digest, annotations: &Annotations) -> Self {
        let version = annotations.version.clone().filter(|version| version.len() <= MAX_BYTES);
        Self { digest, version, created: annotations.created() }
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Which is newer, as far as they say: by version, and by time where the versions say nothing.
    fn age(&self, other: &Self) -> Option<Ordering> {
        let version = |one: &Self| {
            let text = one.version.as_deref()?;
            semver::Version::parse(text.strip_prefix('v').unwrap_or(text)).ok()
        };
        let by_version = version(self).zip(version(other)).map(|(ours, its)| ours.cmp_precedence(&its));
        match by_version {
            Some(Ordering::Equal) | None => {
                let by_time = self.created.zip(other.created).map(|(ours, its)| ours.cmp(&its));
                by_time.or(by_version)
            }
            different => different,
        }
    }

    fn shown(&self) -> String {
        match &self.version {
            Some(version) => {
                format!("{} ({})", version.escape_debug(), self.digest)
            }
            None => self.digest.to_string(),
        }
    }
}

impl History {
    fn begin(newest: Meaning) -> Self {
        Self { newest, earlier: Vec::new() }
    }

    /// That the tag means something older than before, in words.
    pub(super) fn moved_back(&self, now: &Meaning) -> Option<String> {
        if now.digest == self.newest.digest {
            return None;
        }
        let (newest, shown) = (self.newest.shown(), now.shown());
        match now.age(&self.newest) {
            Some(Ordering::Less) => Some(format!("moved from {newest} back to {shown}")),
            Some(Ordering::Greater) => None,
            _ if self.earlier.contains(&now.digest) => Some(format!("moved from {newest} back to {shown}")),
            None if self.newest.version.is_some() && now.version.is_none() => {
                Some(format!("moved from {newest} to {shown}, which does not say its version"))
            }
            _ => None,
        }
    }

    /// With what the tag means now.
    pub(super) fn with(history: Option<Self>, now: &Meaning) -> Self {
        let Some(mut history) = history else { return Self::begin(now.clone()) };
        if history.newest.digest == now.digest || history.moved_back(now).is_some() {
            return history;
        }
        let before = std::mem::replace(&mut history.newest, now.clone()).digest;
        history.earlier.retain(|digest| *digest != before && *digest != now.digest);
        history.earlier.insert(0, before);
        history.earlier.truncate(MAX_EARLIER);
        history
    }
}
