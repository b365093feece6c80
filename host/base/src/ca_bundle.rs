//! The certificate authorities that this node trusts.

use std::path::{Path, PathBuf};

/// Where systems keep them; the first that is there is used, as by Go.
const USUAL: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The file with them, PEM: what `SSL_CERT_FILE` says, else the system's.
pub fn file() -> Option<PathBuf> {
    let said = std::env::var_os("SSL_CERT_FILE").filter(|said| !said.is_empty());
    let usual = || USUAL.iter().map(Path::new).find(|file| file.is_file()).map(Path::to_owned);
    said.map_or_else(usual, |said| Some(said.into()))
}
