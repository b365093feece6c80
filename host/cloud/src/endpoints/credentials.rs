//! What the host adds to requests to an endpoint. Files are read anew for each attempt: what is rotated counts at once.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flannel_base::trusted_file;
use flannel_privileges::with_privileges;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::azure::AzureIdentity;
use super::keystone::{self, Keystone};
use super::oauth::OauthClient;
use super::outside::Outside;
use super::request::folded;
use super::sigv4::{self, SigV4};
use crate::http::Http;
use crate::vendor::Prepared;
use crate::{Answer, Failure, ResponseClass, Secret};

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
    /// A token of `OpenStack`'s.
    Keystone(Keystone),
    /// An access token for what Azure gives this machine or pod.
    Azure(AzureIdentity),
    /// A signature of Amazon's kind.
    SigV4(SigV4),
}

/// A header, and what must not come back of it.
struct Presented {
    header: (HeaderName, HeaderValue),
    secrets: Vec<Secret>,
}

impl Credentials {
    /// Whether a header is one that they are in.
    pub(super) fn are_in(&self, header: &HeaderName) -> bool {
        let header = folded(header);
        match self {
            Self::None => false,
            Self::Header { name, .. } => folded(name) == header,
            Self::Keystone(_) => header == keystone::HEADER,
            Self::SigV4(_) => sigv4::HEADERS.contains(&&*header),
            Self::Bearer(_) | Self::Basic { .. } | Self::Oauth(_) | Self::Azure(_) => {
                header == AUTHORIZATION.as_str()
            }
        }
    }

    /// Whether a query leaves to them what is theirs.
    pub(super) fn check_query(&self, query: &[(String, String)]) -> Result<(), Failure> {
        if matches!(self, Self::SigV4(_)) { SigV4::check(query) } else { Ok(()) }
    }

    /// What an answer means, as far as that depends on them.
    pub(super) fn verdict(&self, answer: &Answer) -> Option<ResponseClass> {
        match self {
            Self::None | Self::Bearer(_) | Self::Basic { .. } | Self::Header { .. } => None,
            Self::Oauth(_) | Self::Keystone(_) | Self::Azure(_) => {
                (answer.status == 401).then_some(ResponseClass::CredentialsRefused)
            }
            Self::SigV4(_) => SigV4::verdict(answer),
        }
    }

    /// The next ones are new, where they are not the operator's own.
    pub(super) fn forget(&self, outside: &Outside) {
        match self {
            Self::None | Self::Bearer(_) | Self::Basic { .. } | Self::Header { .. } => {}
            Self::Oauth(client) => client.kept.forget(),
            Self::Keystone(keystone) => keystone.kept.forget(),
            Self::Azure(identity) => identity.kept.forget(),
            // Those of a file are read anew each time.
            Self::SigV4(signer) if signer.profile.is_some() => {}
            Self::SigV4(_) => outside.forget(),
        }
    }

    /// Makes a request one of whoever they are.
    pub(super) async fn add(&self, http: &Http, outside: &Outside, to: &mut Prepared) -> Result<(), Failure> {
        let Presented { header, secrets } = match self {
            Self::None => return Ok(()),
            Self::SigV4(signer) => return signer.sign(outside, to).await,
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
                let (token, secrets) = client.token(http).await?;
                bearer(token, secrets, || "the access token".to_owned())?
            }
            Self::Azure(identity) => {
                let (token, secrets) = identity.token(outside).await?;
                bearer(token, secrets, || "the access token".to_owned())?
            }
            Self::Keystone(keystone) => {
                let (token, mut secrets) = keystone.token(http).await?;
                let header = sensitive(&token, || "the token".to_owned())?;
                secrets.push(token);
                Presented { header: (HeaderName::from_static(keystone::HEADER), header), secrets }
            }
        };
        to.headers.push(header);
        to.secrets.extend(secrets);
        Ok(())
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
    let whole = read_text(file)?;
    let text = whole.reveal().trim();
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

/// A file with secrets, as it is.
pub(super) fn read_text(file: &Path) -> Result<Secret, Failure> {
    let wrong = |reason: &str| Failure::Credentials(format!("{}: {reason}", file.display()));
    let read = with_privileges(|| trusted_file::read(file, LARGEST + 1));
    let bytes = Zeroizing::new(read.map_err(|error| wrong(&format!("cannot be read: {error}")))?);
    if bytes.len() as u64 > LARGEST {
        return Err(wrong("it is larger than 16 KiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it is not UTF-8"))?;
    Ok(Secret::new(text.to_owned()))
}
