//! Credentials from Docker's config file: the `auths` that `docker login` writes where no credential helper is set up.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use serde::Deserialize;

use super::error::RegistryError;

/// How Docker's own registry is called in the file.
const DOCKER_HUB: [&str; 2] = ["docker.io", "index.docker.io"];

/// A user's name and password, which are shown nowhere.
#[derive(Clone)]
pub(super) struct Credentials {
    header: HeaderValue,
    /// Where they are from.
    pub file: PathBuf,
}

impl Credentials {
    /// The header that presents them.
    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials(from {})", self.file.display())
    }
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: HashMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    /// `NAME:PASSWORD` in base64; empty where a helper keeps it.
    #[serde(default)]
    auth: String,
}

/// `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
pub(super) fn usual_file() -> Option<PathBuf> {
    let directory = match std::env::var_os("DOCKER_CONFIG").filter(|directory| !directory.is_empty()) {
        Some(directory) => PathBuf::from(directory),
        None => std::env::home_dir()?.join(".docker"),
    };
    Some(directory.join("config.json"))
}

/// The credentials for a registry (`HOST` or `HOST:PORT`); none if the file or the entry is not there.
pub(super) fn read(file: &Path, registry: &str) -> Result<Option<Credentials>, RegistryError> {
    let wrong = |reason: String| RegistryError::CredentialsFile { file: file.to_owned(), reason };
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(format!("cannot be read: {error}"))),
    };
    // The parser's own words may quote what it read.
    let config: Config = serde_json::from_slice(&text).map_err(|error| {
        wrong(format!("not understood at line {}, column {}", error.line(), error.column()))
    })?;
    let found = config.auths.iter().find(|(name, _)| is_for(name, registry));
    let Some((_, Auth { auth })) = found.filter(|(_, entry)| !entry.auth.is_empty()) else { return Ok(None) };
    let is_pair = STANDARD.decode(auth.trim()).is_ok_and(|pair| pair.contains(&b':'));
    let header = HeaderValue::from_str(&format!("Basic {}", auth.trim())).ok().filter(|_| is_pair);
    let Some(mut header) = header else {
        return Err(wrong(format!("auths, {registry}: auth is NAME:PASSWORD in base64")));
    };
    header.set_sensitive(true);
    Ok(Some(Credentials { header, file: file.to_owned() }))
}

/// Whether an entry's name, which may be a URL, is that of a registry.
fn is_for(name: &str, registry: &str) -> bool {
    let host = |text: &str| {
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        text.split('/').next().unwrap_or_default().to_ascii_lowercase()
    };
    let (name, registry) = (host(name), host(registry));
    name == registry || [&name, &registry].iter().all(|host| DOCKER_HUB.contains(&host.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
        "auths": {
            "r.example.com": { "auth": "bmFtZTpwYXNzd29yZA==" },
            "https://index.docker.io/v1/": { "auth": "aHViOnB3" },
            "https://r.example.com:5000": { "auth": "b3RoZXI6cHc=", "email": "" },
            "helped.example.com": {},
            "broken.example.com": { "auth": "czNjcmV0" }
        },
        "credsStore": "desktop"
    }"#;

    fn found(text: &str, registry: &str) -> Result<Option<String>, String> {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("config.json");
        std::fs::write(&file, text).expect("written");
        let found = read(&file, registry).map_err(|error| error.to_string())?;
        Ok(found.map(|found| found.header().to_str().expect("text").to_owned()))
    }

    #[test]
    fn a_registry_has_its_own_credentials_and_no_others() {
        let basic = |pair: &str| Ok(Some(format!("Basic {pair}")));
        assert_eq!(found(FILE, "r.example.com"), basic("bmFtZTpwYXNzd29yZA=="));
        assert_eq!(found(FILE, "R.example.com:5000"), basic("b3RoZXI6cHc="));
        assert_eq!(found(FILE, "docker.io"), basic("aHViOnB3"));
        for other in ["r.example.com:5001", "example.com", "helped.example.com", "r.example.com.evil.com"] {
            assert_eq!(found(FILE, other), Ok(None), "{other}");
        }
        assert_eq!(found("{}", "r.example.com"), Ok(None));
        assert!(read(Path::new("/nowhere/config.json"), "r").expect("no file, no credentials").is_none());
    }

    #[test]
    fn a_wrong_file_is_refused_without_its_content() {
        for (text, registry) in
            [(FILE, "broken.example.com"), (r#"{"auths":{"r":"s3cret"}}"#, "r"), ("s3cret", "r")]
        {
            let error = found(text, registry).expect_err("refused");
            assert!(error.contains("config.json") && !error.contains("s3cret"), "{error}");
            assert!(!error.contains("czNjcmV0"), "{error}");
        }
    }

    #[test]
    fn they_are_not_shown() {
        let header = HeaderValue::from_static("Basic s3cret");
        let shown = format!("{:?}", Credentials { header, file: "/f".into() });
        assert_eq!(shown, "Credentials(from /f)");
    }
}
