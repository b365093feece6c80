//! The operator's file with endpoints.
//!
//! Whoever can write to it, or to a file with credentials that it names, could have requests sent to anybody, or as anybody: such a file is
//! not read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flannel_base::server_trust::ServerTrust;
use flannel_base::trusted_file;
use flannel_privileges::with_privileges;
use serde::Deserialize;
use toml::Spanned;

use super::address::address;
use super::credentials::Credentials;
use super::pattern::Pattern;
use super::written::{Place, WrittenCredentials};
use crate::http::{CleartextPolicy, Url};
use crate::is_label;

/// Bytes of the largest file.
const LARGEST: u64 = 1 << 20;
/// Entries of one `allow`.
const PATTERNS: usize = 256;

/// What is wrong with the file.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("--http-endpoints {path}: {reason}")]
pub struct EndpointsError {
    /// The file.
    path: PathBuf,
    /// What is wrong, and where.
    reason: String,
}

/// All endpoints, by their names.
#[derive(Debug, Default)]
pub struct Endpoints(pub(super) BTreeMap<String, Endpoint>);

/// One of them.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Where it is; the path has no slash at its end.
    pub url: Url,
    /// What may be asked.
    pub allow: Vec<Pattern>,
    /// What the host adds.
    pub credentials: Credentials,
    /// Certificate authorities of its own.
    pub ca_file: Option<PathBuf>,
    /// With whom HTTP is spoken without TLS.
    pub cleartext: CleartextPolicy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    endpoint: BTreeMap<String, Spanned<WrittenEndpoint>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenEndpoint {
    url: Spanned<String>,
    allow: Vec<Spanned<String>>,
    credentials: Option<Spanned<WrittenCredentials>>,
    ca_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    insecure: bool,
}

/// What is wrong, and how far from the file's beginning.
type Wrong = (usize, String);

impl Endpoints {
    /// Reads the file. The error says what is wrong, and where.
    pub fn read(path: &Path) -> Result<Self, EndpointsError> {
        let wrong = |reason: String| EndpointsError { path: path.to_owned(), reason };
        let read = with_privileges(|| trusted_file::read(path, LARGEST + 1));
        let bytes = read.map_err(|error| wrong(format!("cannot be read: {error}")))?;
        if bytes.len() as u64 > LARGEST {
            return Err(wrong("it is larger than 1 MiB".to_owned()));
        }
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        let directory = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, directory).map_err(wrong)
    }

    /// Files that are named in it without a directory are beside it.
    pub(super) fn parse(text: &str, directory: &Path) -> Result<Self, String> {
        let at = |(at, reason): Wrong| {
            let line = 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
            format!("line {line}: {reason}")
        };
        let written: Written = toml::from_str(text)
            .map_err(|error| at((error.span().map_or(0, |span| span.start), error.message().to_owned())))?;
        let endpoints = written.endpoint.into_iter().map(|(name, written)| {
            let begin = written.span().start;
            let named = |(at, reason): Wrong| (at, format!("endpoint.{name}: {reason}"));
            if !is_label(&name) {
                let right = "a name is 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end";
                return Err(at((begin, format!("endpoint.{name}: {right}"))));
            }
            let read = endpoint(written.into_inner(), begin, directory).map_err(|wrong| at(named(wrong)))?;
            Ok((name, read))
        });
        endpoints.collect::<Result<_, String>>().map(Self)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn endpoint(written: WrittenEndpoint, begin: usize, directory: &Path) -> Result<Endpoint, Wrong> {
    let WrittenEndpoint { url, allow, credentials, ca_file, insecure } = written;
    let at = url.span().start;
    let url = address("url", url.get_ref(), insecure).map_err(|reason| (at, reason))?;
    if allow.is_empty() {
        let right = "allow = []: nothing could be asked; right would be a list such as [\"GET /networks/*\"]";
        return Err((begin, right.to_owned()));
    }
    if allow.len() > PATTERNS {
        return Err((begin, format!("allow has {} entries; at most {PATTERNS}", allow.len())));
    }
    let pattern = |text: &Spanned<String>| {
        Pattern::parse(text.get_ref()).map_err(|reason| (text.span().start, format!("allow: {reason}")))
    };
    let allow = allow.iter().map(pattern).collect::<Result<_, Wrong>>()?;
    let credentials = match credentials {
        None => Credentials::None,
        Some(written) => {
            let at = written.span().start;
            let place = Place { directory, insecure, host: &url.host };
            let read = written.into_inner().read(&place);
            read.map_err(|reason| (at, format!("credentials: {reason}")))?
        }
    };
    let ca_file = ca_file.map(|file| {
        let at = file.span().start;
        let path = directory.join(file.into_inner());
        let wrong = |reason: String| (at, format!("ca-file = {:?}: {reason}", path.display().to_string()));
        let pem = with_privileges(|| std::fs::read(&path));
        let pem = pem.map_err(|error| wrong(format!("cannot be read: {error}")))?;
        ServerTrust::from_pem(&pem).ok_or_else(|| wrong("it has no certificates in PEM".to_owned()))?;
        Ok(path)
    });
    let cleartext = if insecure { CleartextPolicy::Anywhere } else { CleartextPolicy::LinkLocal };
    Ok(Endpoint { url, allow, credentials, ca_file: ca_file.transpose()?, cleartext })
}
