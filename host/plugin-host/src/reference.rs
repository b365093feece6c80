//! Where a plugin is to come from, as an operator writes it: a file or a registry, pinned by a digest or not.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::artifact::ArtifactError;
use super::digest::Digest;

const SCHEME: &str = "oci://";
/// Between what is pinned and the digest; the digest's own prefix is part of it.
const PIN: &str = "@sha256:";
/// Characters of the longest repository that registries have to take.
const LONGEST_REPOSITORY: usize = 255;
/// Characters of the longest tag.
const LONGEST_TAG: usize = 128;

/// Where a plugin is to come from. What was parsed is displayed as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginReference {
    /// `FILE` or `FILE@sha256:DIGITS`.
    File {
        /// The file.
        path: PathBuf,
        /// What the component's digest has to be.
        pin: Option<Digest>,
    },
    /// `oci://REGISTRY/REPOSITORY:TAG`, with `@sha256:DIGITS` behind or instead of the tag.
    Registry(RegistryReference),
}

impl PluginReference {
    /// What can be said before anything is loaded: a file has to be there.
    ///
    /// # Errors
    ///
    /// It is not, or cannot be looked at.
    pub fn check_there(&self) -> Result<(), ArtifactError> {
        let Self::File { path, .. } = self else { return Ok(()) };
        let looked = std::fs::metadata(path).map(drop);
        looked.map_err(|error| ArtifactError::Unreadable { path: path.clone(), error })
    }
}

/// A component in an OCI registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryReference {
    /// Name or address of the registry; an IPv6 address in brackets.
    pub host: String,
    /// Its port, if it is not the usual one.
    pub port: Option<u16>,
    /// The repository in it.
    pub repository: String,
    /// Which of the repository's manifests.
    pub version: Version,
}

/// Which of a repository's manifests is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// The one that the tag names now.
    Tag(String),
    /// The one with this digest. A tag beside it is for people.
    Digest {
        /// The tag, if there is one.
        tag: Option<String>,
        /// The manifest's digest.
        digest: Digest,
    },
}

/// The text names no place where a plugin could be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; a plugin is FILE, FILE@sha256:DIGITS, oci://REGISTRY[:PORT]/REPOSITORY:TAG or oci://REGISTRY[:PORT]/REPOSITORY[:TAG]@sha256:DIGITS"
)]
pub struct ReferenceError(&'static str);

impl FromStr for PluginReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (place, pin) = match text.rsplit_once(PIN) {
            Some((place, digits)) => (place, Some(digest(digits)?)),
            None => (text, None),
        };
        if let Some(place) = place.strip_prefix(SCHEME) {
            return registry(place, pin).map(Self::Registry);
        }
        if scheme(place).is_some_and(|scheme| scheme.eq_ignore_ascii_case("oci")) {
            return Err(ReferenceError("a registry's plugin begins with oci://"));
        }
        if scheme(place).is_some_and(|scheme| place[scheme.len()..].starts_with("://")) {
            return Err(ReferenceError("of URLs only oci:// is taken"));
        }
        if place.is_empty() {
            return Err(ReferenceError("there is no file's name"));
        }
        Ok(Self::File { path: place.into(), pin })
    }
}

impl fmt::Display for PluginReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, pin } => {
                path.display().fmt(f)?;
                pin.map_or(Ok(()), |pin| write!(f, "@{pin}"))
            }
            Self::Registry(reference) => reference.fmt(f),
        }
    }
}

impl RegistryReference {
    /// The registry as it is written: `HOST` or `HOST:PORT`.
    pub fn registry(&self) -> String {
        self.port.map_or_else(|| self.host.clone(), |port| format!("{}:{port}", self.host))
    }

    /// The tag, if it is named by one and not by its digest.
    pub fn tag(&self) -> Option<&str> {
        match &self.version {
            Version::Tag(tag) => Some(tag),
            Version::Digest { .. } => None,
        }
    }

    /// The same, pinned: what it names once the digest of its manifest is known.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        let tag = match &self.version {
            Version::Tag(tag) => Some(tag.clone()),
            Version::Digest { tag, .. } => tag.clone(),
        };
        Self { version: Version::Digest { tag, digest }, ..self.clone() }
    }
}

impl FromStr for RegistryReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        match text.parse()? {
            PluginReference::Registry(reference) => Ok(reference),
            PluginReference::File { .. } => Err(ReferenceError("this is a file, not a registry")),
        }
    }
}

impl fmt::Display for RegistryReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.registry(), self.repository)?;
        match &self.version {
            Version::Tag(tag) => write!(f, ":{tag}"),
            Version::Digest { tag: Some(tag), digest } => write!(f, ":{tag}@{digest}"),
            Version::Digest { tag: None, digest } => write!(f, "@{digest}"),
        }
    }
}

fn digest(digits: &str) -> Result<Digest, ReferenceError> {
    let wrong = ReferenceError("behind @sha256: belong 64 hexadecimal digits in lower case");
    format!("sha256:{digits}").parse().map_err(|_| wrong)
}

/// What looks like a URL's scheme: letters and digits before the first colon.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    (scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(plain))
        .then_some(scheme)
}

fn registry(text: &str, pin: Option<Digest>) -> Result<RegistryReference, ReferenceError> {
    let (registry, rest) =
        text.split_once('/').ok_or(ReferenceError("behind the registry belongs a repository"))?;
    let (host, port) = host_and_port(registry)?;
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag.to_owned())),
        None => (rest, None),
    };
    if !is_repository(repository) {
        return Err(ReferenceError(
            "a repository is lower-case letters and digits, with . _ or - between them, in parts separated by /",
        ));
    }
    if tag.as_ref().is_some_and(|tag| !is_tag(tag)) {
        return Err(ReferenceError(
            "a tag is up to 128 letters, digits, . _ and -, and does not begin with . or -",
        ));
    }
    let version = match (tag, pin) {
        (tag, Some(digest)) => Version::Digest { tag, digest },
        (Some(tag), None) => Version::Tag(tag),
        (None, None) => return Err(ReferenceError("behind the repository belongs a tag or a digest")),
    };
    Ok(RegistryReference { host, port, repository: repository.to_owned(), version })
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), ReferenceError> {
    // An IPv6 address has colons of its own.
    let end = text.rfind(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match text[end..].split_once(':') {
        Some((name, port)) => (&text[..end + name.len()], Some(port)),
        None => (text, None),
    };
    if !is_host(host) {
        return Err(ReferenceError("a registry is a name or an address, an IPv6 address in brackets"));
    }
    let number =
        |port: &str| port.parse().ok().filter(|number: &u16| *number > 0 && number.to_string() == port);
    match port.map(number) {
        Some(None) => Err(ReferenceError("a registry's port is a number from 1 to 65535")),
        port => Ok((host.to_owned(), port.flatten())),
    }
}

fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[') {
        return address
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    let is_label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inside)
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Whether it is a repository's name in the words of the OCI distribution specification.
fn is_repository(text: &str) -> bool {
    text.len() <= LONGEST_REPOSITORY && text.split('/').all(is_component)
}

fn is_component(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_separator =
        |between: &str| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-');
    text.bytes().next().is_some_and(plain)
        && text.bytes().last().is_some_and(plain)
        && text.is_ascii()
        && text.split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit()).all(is_separator)
}

fn is_tag(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST_TAG).contains(&text.len()) && !text.starts_with(['.', '-']) && text.bytes().all(inside)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c";

    fn parsed(text: &str) -> PluginReference {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn files_may_be_pinned() {
        let pin = Some(DIGEST.parse().expect("a digest"));
        assert_eq!(parsed("./a.wasm"), PluginReference::File { path: "./a.wasm".into(), pin: None });
        assert_eq!(
            parsed(&format!("/p/a@b.wasm@{DIGEST}")),
            PluginReference::File { path: "/p/a@b.wasm".into(), pin }
        );
    }

    #[test]
    fn registries_have_ports_repositories_tags_and_digests() {
        let tag = Version::Tag("v1.0_b-2".into());
        let digest = |tag: Option<&str>| Version::Digest {
            tag: tag.map(ToOwned::to_owned),
            digest: DIGEST.parse().expect("a digest"),
        };
        for (text, host, port, repository, version) in [
            ("oci://ghcr.io/a/b-c/d__e.f:v1.0_b-2".to_owned(), "ghcr.io", None, "a/b-c/d__e.f", tag.clone()),
            ("oci://127.0.0.1:5000/p:v1.0_b-2".to_owned(), "127.0.0.1", Some(5000), "p", tag.clone()),
            ("oci://[::1]:5000/p:v1.0_b-2".to_owned(), "[::1]", Some(5000), "p", tag.clone()),
            ("oci://[fd77::1]/p:v1.0_b-2".to_owned(), "[fd77::1]", None, "p", tag),
            (format!("oci://localhost/p@{DIGEST}"), "localhost", None, "p", digest(None)),
            (format!("oci://r:1/p/q:t@{DIGEST}"), "r", Some(1), "p/q", digest(Some("t"))),
        ] {
            let wanted =
                RegistryReference { host: host.into(), port, repository: repository.into(), version };
            assert_eq!(parsed(&text), PluginReference::Registry(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_with_what_would_be_right() {
        for (text, said) in [
            ("", "no file's name"),
            (&format!("@{DIGEST}"), "no file's name"),
            ("a.wasm@sha256:12", "64 hexadecimal digits"),
            (&format!("a.wasm@{}", DIGEST.to_uppercase().replace("SHA", "sha")), "64 hexadecimal digits"),
            ("https://example.com/a.wasm", "only oci://"),
            ("docker://r/p:t", "only oci://"),
            ("oci:r/p:t", "begins with oci://"),
            ("OCI://r/p:t", "begins with oci://"),
            ("oci://r", "belongs a repository"),
            ("oci:///p:t", "a name or an address"),
            ("oci://user:secret@r/p:t", "a registry's port"),
            ("oci://user@r/p:t", "a name or an address"),
            ("oci://[::1/p:t", "a name or an address"),
            ("oci://::1/p:t", "a name or an address"),
            ("oci://r:0/p:t", "a registry's port"),
            ("oci://r:080/p:t", "a registry's port"),
            ("oci://r:65536/p:t", "a registry's port"),
            ("oci://r/p", "a tag or a digest"),
            ("oci://r/:t", "a repository is"),
            ("oci://r/P:t", "a repository is"),
            ("oci://r/a..b:t", "a repository is"),
            ("oci://r/a/:t", "a repository is"),
            ("oci://r/../etc:t", "a repository is"),
            ("oci://r/é:t", "a repository is"),
            ("oci://r/p:", "a tag is"),
            ("oci://r/p:-t", "a tag is"),
            ("oci://r/p:a/b", "a tag is"),
        ] {
            let error = text.parse::<PluginReference>().expect_err(text).to_string();
            assert!(error.contains(said) && error.contains("a plugin is FILE"), "{text}: {error}");
            assert_eq!(error.lines().count(), 1);
        }
        let long = format!("oci://r/p:{}", "t".repeat(LONGEST_TAG + 1));
        assert!(long.parse::<PluginReference>().is_err());
    }

    #[test]
    fn a_tag_is_pinned_by_the_digest_that_it_has_now() {
        let reference: RegistryReference = "oci://r/p:t".parse().expect("a reference");
        assert_eq!(
            reference.pinned(DIGEST.parse().expect("a digest")).to_string(),
            format!("oci://r/p:t@{DIGEST}")
        );
        assert!("a.wasm".parse::<RegistryReference>().is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_parses_is_displayed_as_it_was_written(
            text in "(oci:?/?/?)?[a-z.\\[\\]]{0,9}(:[0-9]{0,6})?(/[a-zA-Z0-9._/-]{0,9})?(:[A-Za-z._-]{0,4})?(@sha256:[0-9a-f]{63,65})?"
        ) {
            if let Ok(reference) = text.parse::<PluginReference>() {
                prop_assert_eq!(reference.to_string(), text);
            }
        }

        #[test]
        fn what_is_well_formed_parses_and_is_displayed_as_it_was_written(
            text in "oci://([a-z][a-z0-9]{0,8}(\\.[a-z]{2,3}){0,2}|\\[fd77::[1-9a-f]\\])(:[1-9][0-9]{0,3})?(/[a-z0-9]{1,5}((\\.|_|__|-|--)[a-z0-9]{1,3}){0,2}){1,3}(:[A-Za-z0-9_][A-Za-z0-9._-]{0,9}|(:[a-z]{1,4})?@sha256:[0-9a-f]{64})"
        ) {
            let reference = text.parse::<PluginReference>();
            prop_assert_eq!(reference.map(|reference| reference.to_string()), Ok(text));
        }

        #[test]
        fn no_text_breaks_the_parser(text in "\\PC{0,40}") {
            if let Ok(reference) = text.parse::<PluginReference>() {
                prop_assert_eq!(reference.to_string(), text);
            }
        }
    }
}
