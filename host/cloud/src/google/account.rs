//! The file that `GOOGLE_APPLICATION_CREDENTIALS` names: a service account's key, with which an assertion is signed (RFC 7523), or a
//! user's refresh token.

use std::fmt;
use std::io::Read;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use flannel_privileges::with_privileges;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::Secret;
use crate::http::Url;
use crate::options::Variables;
use crate::request::Failure;

/// What names the file.
const VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// Where tokens are where the file does not say it.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Seconds that an assertion is good for; Google takes no more.
const ASSERTION: u64 = 3_600;
/// Bytes of the largest file.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Whom the file speaks for.
pub(super) enum Account {
    /// A service account, whose key signs.
    Service { file: String, email: String, key_id: String, key: Secret, token_uri: Url },
    /// A user.
    User { file: String, client_id: String, client_secret: Secret, refresh_token: Secret, token_uri: Url },
}

/// Where a token is asked for, with which form, and what of that must not come back.
pub(super) type Grant = (Url, Vec<(&'static str, Secret)>, Vec<Secret>);

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    r#type: String,
    client_email: Option<String>,
    private_key_id: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    private_key: Option<Secret>,
    client_id: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    client_secret: Option<Secret>,
    #[serde(default, deserialize_with = "secret")]
    refresh_token: Option<Secret>,
    token_uri: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(Secret::new))
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { file, email, .. } => write!(f, "service account {email} of {file}"),
            Self::User { file, .. } => write!(f, "the user of {file}"),
        }
    }
}

impl Account {
    /// What the variable's file says, read anew each time, since keys are replaced; none: there is no such variable.
    pub(super) fn of(variables: &Variables) -> Result<Option<Self>, Failure> {
        let Some(file) = variables.get(VARIABLE) else { return Ok(None) };
        let wrong = |reason: String| Failure::Credentials(format!("{VARIABLE}={file}: {reason}"));
        let mut text = String::new();
        let opened = with_privileges(|| std::fs::File::open(&file));
        let read = opened.and_then(|opened| opened.take(MAX_FILE_BYTES).read_to_string(&mut text));
        let text = Secret::new(text);
        read.map_err(|error| wrong(format!("cannot be read: {error}")))?;
        Self::read(&file, &text).map(Some).map_err(wrong)
    }

    /// The error says nothing of what is in the file but the names of members, and its type.
    fn read(file: &str, text: &Secret) -> Result<Self, String> {
        let read: Result<File, _> = serde_json::from_str(text.reveal());
        // The library's own error could quote what it has found.
        let read = read.map_err(|error| format!("line {}: no JSON object of credentials", error.line()))?;
        let token_uri = read.token_uri.as_deref().unwrap_or(TOKEN_URI);
        let token_uri = Url::parse(token_uri).ok_or("token_uri is no URL")?;
        let file = file.to_owned();
        let missing = |member: &str| format!("{member} is missing");
        match read.r#type.as_str() {
            "service_account" => Ok(Self::Service {
                file,
                email: read.client_email.ok_or_else(|| missing("client_email"))?,
                key_id: read.private_key_id.ok_or_else(|| missing("private_key_id"))?,
                key: read.private_key.ok_or_else(|| missing("private_key"))?,
                token_uri,
            }),
            "authorized_user" => Ok(Self::User {
                file,
                client_id: read.client_id.ok_or_else(|| missing("client_id"))?,
                client_secret: read.client_secret.ok_or_else(|| missing("client_secret"))?,
                refresh_token: read.refresh_token.ok_or_else(|| missing("refresh_token"))?,
                token_uri,
            }),
            "" => Err(missing("type")),
            other => {
                let other: String = other.chars().filter(|letter| !letter.is_control()).take(64).collect();
                Err(format!(
                    "credentials of the type {other:?} are not supported; service_account and authorized_user are"
                ))
            }
        }
    }

    /// What a token is asked for with.
    pub(super) fn grant(&self, scope: &str, now: SystemTime) -> Result<Grant, Failure> {
        let open = |text: &str| Secret::new(text.to_owned());
        match self {
            Self::Service { file, email, key_id, key, token_uri } => {
                let wrong = |reason: &str| Failure::Credentials(format!("{file}: private_key {reason}"));
                let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
                let claims = json!({
                    "iss": email,
                    "scope": scope,
                    "aud": whole(token_uri),
                    "iat": now,
                    "exp": now + ASSERTION,
                });
                let header = json!({ "alg": "RS256", "typ": "JWT", "kid": key_id });
                let part = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
                let assertion =
                    signed(key, &format!("{}.{}", part(&header), part(&claims))).map_err(wrong)?;
                let form = vec![("grant_type", open(JWT_BEARER)), ("assertion", assertion.clone())];
                Ok((token_uri.clone(), form, vec![assertion]))
            }
            Self::User { client_id, client_secret, refresh_token, token_uri, .. } => {
                let form = vec![
                    ("grant_type", open("refresh_token")),
                    ("client_id", open(client_id)),
                    ("client_secret", client_secret.clone()),
                    ("refresh_token", refresh_token.clone()),
                ];
                Ok((token_uri.clone(), form, vec![client_secret.clone(), refresh_token.clone()]))
            }
        }
    }
}

fn whole(url: &Url) -> String {
    format!("{}://{}{}", if url.secure { "https" } else { "http" }, url.authority(), url.path)
}

/// A text with its signature (RFC 7515, RS256).
fn signed(key: &Secret, text: &str) -> Result<Secret, &'static str> {
    let der =
        PrivateKeyDer::from_pem_slice(key.reveal().as_bytes()).map_err(|_| "is no private key in PEM")?;
    let pair = match &der {
        PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err("is no RSA key"),
    };
    let pair = pair.map_err(|_| "is no RSA key of 2048 to 4096 bits")?;
    let mut signature = vec![0; pair.public().modulus_len()];
    let random = ring::rand::SystemRandom::new();
    let done = pair.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature);
    done.map_err(|_| "cannot sign")?;
    Ok(Secret::new(format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))))
}
