//! The operator's file with endpoints.
//!
//! Whoever can write to it, or to a file with credentials that it names, could have requests sent to anybody, or as anybody: such a file is
//! not read.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use flannel_base::server_trust::ServerTrust;
use flannel_base::text::without_credentials;
use flannel_base::trusted_file;
use flannel_privileges::with_privileges;
use hyper::header::HeaderName;
use serde::Deserialize;
use toml::Spanned;

use super::credentials::Credentials;
use super::oauth::OauthClient;
use super::pattern::Pattern;
use super::request::is_reserved;
use crate::http::{CleartextPolicy, Url, is_link_local, is_loopback};
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenCredentials {
    bearer_file: Option<PathBuf>,
    basic: Option<WrittenBasic>,
    header: Option<WrittenHeader>,
    oauth_client: Option<WrittenOauth>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenBasic {
    user: String,
    password_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenHeader {
    name: String,
    value_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenOauth {
    token_url: String,
    client_id: String,
    client_secret_file: PathBuf,
    scope: Option<String>,
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
            let read = self::credentials(written.into_inner(), insecure, directory);
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

fn credentials(written: WrittenCredentials, insecure: bool, directory: &Path) -> Result<Credentials, String> {
    const KINDS: &str = "bearer-file, basic, header or oauth-client";
    let WrittenCredentials { bearer_file, basic, header, oauth_client } = written;
    let file = |path: PathBuf| directory.join(path);
    match (bearer_file, basic, header, oauth_client) {
        (Some(path), None, None, None) => Ok(Credentials::Bearer(file(path))),
        (None, Some(WrittenBasic { user, password_file }), None, None) => {
            if user.contains(':') || user.chars().any(char::is_control) {
                return Err(format!("basic: user = {user:?}: a user's name has no colon in it (RFC 7617)"));
            }
            Ok(Credentials::Basic { user, password_file: file(password_file) })
        }
        (None, None, Some(WrittenHeader { name, value_file }), None) => {
            let read: HeaderName = name
                .parse()
                .map_err(|_| format!("header: name = {name:?} is no name of a header (RFC 9110, 5.1)"))?;
            if is_reserved(&read) && read != hyper::header::AUTHORIZATION && read != hyper::header::COOKIE {
                return Err(format!("header: name = {name:?}: this header is not for credentials"));
            }
            Ok(Credentials::Header { name: read, value_file: file(value_file) })
        }
        (None, None, None, Some(written)) => {
            let WrittenOauth { token_url, client_id, client_secret_file, scope } = written;
            let token_url = address("oauth-client: token-url", &token_url, insecure)?;
            if client_id.is_empty() {
                return Err("oauth-client: client-id is empty".to_owned());
            }
            let client_secret_file = file(client_secret_file);
            let kept = Mutex::new(None);
            Ok(Credentials::Oauth(OauthClient { token_url, client_id, client_secret_file, scope, kept }))
        }
        (None, None, None, None) => Err(format!("it is empty; right would be one of {KINDS}")),
        _ => Err(format!("there are several; right would be one of {KINDS}")),
    }
}

/// A URL that credentials may be sent to. The path has no slash at its end.
fn address(key: &str, text: &str, insecure: bool) -> Result<Url, String> {
    let shown = without_credentials(text);
    let form = || format!("{key} = {shown:?}: right would be https://HOST[:PORT][/PATH]");
    let url =
        Url::parse(text).filter(|url| !url.path.contains('?') && !text.contains('#')).ok_or_else(form)?;
    let is_near = is_loopback(&url.host) || url.host.parse::<IpAddr>().is_ok_and(is_link_local);
    if !url.secure && !is_near && !insecure {
        return Err(format!(
            "{key} = {shown:?}: without TLS everybody on the way could read the credentials; right would be https://, or \
             insecure = true where the network is trusted"
        ));
    }
    let path = url.path.trim_end_matches('/').to_owned();
    Ok(Url { path, ..url })
}
