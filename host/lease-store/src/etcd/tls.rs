//! Certificates for etcd, from the operator's files.

use std::path::Path;

use etcd_client::{Certificate, Identity, TlsOptions};
use flannel_base::ca_bundle;

use super::EtcdSecurity;
use crate::store::StoreError;

/// What endpoints with `https` are talked to with. A CA file counts with or without a client certificate.
pub(super) fn options(security: &EtcdSecurity) -> Result<TlsOptions, StoreError> {
    let mut options = TlsOptions::new();
    match &security.cafile {
        Some(file) => {
            let authorities = read("etcd CA file", file, "CERTIFICATE")?;
            options = options.ca_certificate(Certificate::from_pem(authorities));
        }
        None => {
            if let Some(roots) = ca_bundle::file().and_then(|file| std::fs::read(file).ok()) {
                options = options.ca_certificate(Certificate::from_pem(roots));
            }
        }
    }
    match (&security.certfile, &security.keyfile) {
        (Some(certificate), Some(key)) => {
            let certificate = read("etcd certificate file", certificate, "CERTIFICATE")?;
            let key = read("etcd key file", key, "PRIVATE KEY")?;
            Ok(options.identity(Identity::from_pem(certificate, key)))
        }
        (None, None) => Ok(options),
        (Some(file), None) => Err(alone("etcd certificate file", file, "it needs a key file, too")),
        (None, Some(file)) => Err(alone("etcd key file", file, "it needs a certificate file, too")),
    }
}

fn alone(what: &'static str, file: &Path, reason: &str) -> StoreError {
    StoreError::Setup { what, value: file.display().to_string(), reason: reason.to_owned() }
}

fn read(what: &'static str, file: &Path, label: &str) -> Result<Vec<u8>, StoreError> {
    let wrong = |reason| StoreError::Setup { what, value: file.display().to_string(), reason };
    let bytes = std::fs::read(file).map_err(|error| wrong(format!("it cannot be read: {error}")))?;
    // Found here, a mistake has a name; found later, it is a failed handshake.
    let is_pem = String::from_utf8_lossy(&bytes)
        .lines()
        .any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{label}-----")));
    if is_pem { Ok(bytes) } else { Err(wrong(format!("it has no PEM block of a {label}"))) }
}
