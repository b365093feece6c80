//! What the host adds to requests to an endpoint. Files are read anew for each attempt: what is rotated counts at once.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flannel_base::trusted_file;
use flannel_privileges::with_privileges;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::oauth::OauthClient;
use crate::http::Http;
use crate::{Failure, Secret};

/// Bytes of the largest file.
const LARGEST: u64 = 16 << 10;
/// Bytes of the shortest secret: shorter ones could not be told from words in what comes back.
const SHORTEST: usize = 8;
/// Bytes of the shortest part of a header's value that is taken for a secret of its own.
const SHORTEST_PART: usize = 16;

/// Who asks, and how that is said.
#[derive(Debug)]
pub(super) enum Credentials {
    /// Nobody in particular.
    None,
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer(PathBuf),
    /// `Authorization: Basic …` (RFC 7617).
    Basic { user: String, password_file: PathBuf },
    /// A header of the API's own.
    Header { name: HeaderName, value_file: PathBuf },
    /// An access token, which is asked for with the client's secret (RFC 6749, section 4.4).
    Oauth(OauthClient),
}

/// A header, and what must not come back of it.
pub(super) struct Presented {
    pub header: (HeaderName, HeaderValue),
    pub secrets: Vec<Secret>,
}

impl Credentials {
    /// The header that they are in.
    pub(super) fn header(&self) -> Option<&HeaderName> {
        match self {
            Self::None => None,
            Self::Header { name, .. } => Some(name),
            Self::Bearer(_) | Self::Basic { .. } | Self::Oauth(_) => Some(&AUTHORIZATION),
        }
    }

    /// Whether there may be others than those that were refused.
    pub(super) fn renew(&self) -> bool {
        matches!(self, Self::Oauth(_))
    }

    /// The next ones are new.
    pub(super) fn forget(&self) {
        if let Self::Oauth(client) = self {
            client.forget();
        }
    }

    /// What is sent now.
    pub(super) async fn present(&self, http: &Http) -> Result<Option<Presented>, Failure> {
        Ok(Some(match self {
            Self::None => return Ok(None),
            Self::Bearer(file) => bearer(read(file)?, Vec::new(), || file.display().to_string())?,
            Self::Basic { user, password_file } => {
                let password = read(password_file)?;
                let (header, sent) = basic(user, &password)?;
                Presented { header: (AUTHORIZATION, header), secrets: vec![sent, password] }
            }
            Self::Header { name, value_file } => {
                let value = read(value_file)?;
                let mut secrets = parts(&value);
                let header = sensitive(&value, || value_file.display().to_string())?;
                secrets.insert(0, value);
                Presented { header: (name.clone(), header), secrets }
            }
            Self::Oauth(client) => {
                let (token, secret) = client.token(http).await?;
                bearer(token, secret, || "the access token".to_owned())?
            }
        }))
    }
}

fn bearer(
    token: Secret,
    mut secrets: Vec<Secret>,
    place: impl FnOnce() -> String,
) -> Result<Presented, Failure> {
    if token.reveal().contains(' ') {
        return Err(Failure::Credentials(format!("{}: a token has no blanks in it", place())));
    }
    let text = Secret::new(format!("Bearer {}", token.reveal()));
    let header = sensitive(&text, place)?;
    secrets.push(token);
    Ok(Presented { header: (AUTHORIZATION, header), secrets })
}

/// The header's value, and what of it is secret.
pub(super) fn basic(user: &str, password: &Secret) -> Result<(HeaderValue, Secret), Failure> {
    let both = Zeroizing::new(format!("{user}:{}", password.reveal()));
    let encoded = Secret::new(BASE64_STANDARD.encode(both.as_bytes()));
    let text = Secret::new(format!("Basic {}", encoded.reveal()));
    Ok((sensitive(&text, || "user and password".to_owned())?, encoded))
}

fn sensitive(text: &Secret, place: impl FnOnce() -> String) -> Result<HeaderValue, Failure> {
    let is_text = text.reveal().bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    let value = is_text.then(|| HeaderValue::from_str(text.reveal()).ok()).flatten();
    let mut value = value.ok_or_else(|| {
        Failure::Credentials(format!("{}: it has to be one line of visible characters of ASCII", place()))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Long parts of a value such as `PVEAPIToken=USER@REALM!ID=UUID`, which may come back alone.
fn parts(value: &Secret) -> Vec<Secret> {
    let parts = value.reveal().split([' ', '=', '!', ':', ',', ';', '"']);
    let long = parts.filter(|part| part.len() >= SHORTEST_PART);
    long.map(|part| Secret::new(part.to_owned())).collect()
}

/// A secret from its file, without blanks and ends of lines around it.
pub(super) fn read(file: &Path) -> Result<Secret, Failure> {
    let wrong = |reason: &str| Failure::Credentials(format!("{}: {reason}", file.display()));
    let read = with_privileges(|| trusted_file::read(file, LARGEST + 1));
    let bytes = Zeroizing::new(read.map_err(|error| wrong(&format!("cannot be read: {error}")))?);
    if bytes.len() as u64 > LARGEST {
        return Err(wrong("it is larger than 16 KiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it is not UTF-8"))?.trim();
    if text.is_empty() {
        return Err(wrong("it is empty"));
    }
    if text.len() < SHORTEST {
        return Err(wrong(&format!(
            "a secret of less than {SHORTEST} bytes could not be kept out of answers"
        )));
    }
    if text.chars().any(char::is_control) {
        return Err(wrong("it has to be one line"));
    }
    Ok(Secret::new(text.to_owned()))
}
