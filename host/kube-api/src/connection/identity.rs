//! The certificate that is shown to the API server.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::client::{ConfigExt, RustlsTlsError};
use kube::config::AuthInfo;
use kube::{Config, Error};
use rustls::ClientConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use secrecy::ExposeSecret as _;

/// What connections are secured with. As kube has it, and besides with certificates of X.509 version 1, which `openssl x509 -req` makes
/// without extensions, and which Go's client shows as well: rustls reads a client's own certificate only to see whether the key is its.
pub(super) fn tls(config: &Config) -> Result<ClientConfig, Error> {
    match config.rustls_client_config() {
        Err(Error::RustlsTls(RustlsTlsError::InvalidPrivateKey(rustls::Error::InvalidCertificate(why)))) => {
            let original = || {
                let why = rustls::Error::InvalidCertificate(why.clone());
                Error::RustlsTls(RustlsTlsError::InvalidPrivateKey(why))
            };
            let pair = pair(&config.auth_info).ok_or_else(original)?;
            let mut others = config.clone();
            let user = &mut others.auth_info;
            (user.client_certificate, user.client_certificate_data) = (None, None);
            (user.client_key, user.client_key_data) = (None, None);
            let mut tls = others.rustls_client_config()?;
            tls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(pair));
            Ok(tls)
        }
        made => made,
    }
}

/// A user's certificate with its key; none where they cannot be read, or are not each other's.
fn pair(user: &AuthInfo) -> Option<CertifiedKey> {
    let chain = pem(user.client_certificate_data.as_deref(), user.client_certificate.as_deref())?;
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>().ok()?;
    let key_data = user.client_key_data.as_ref().map(|data| data.expose_secret());
    let key = PrivateKeyDer::from_pem_slice(&pem(key_data, user.client_key.as_deref())?).ok()?;
    let key = default_provider().key_provider.load_private_key(key).ok()?;
    // RFC 5280, 4.1: a certificate has its key as the same SubjectPublicKeyInfo.
    let public = key.public_key()?;
    let is_its = |certificate: &CertificateDer<'_>| {
        certificate.windows(public.len()).any(|part| part == public.as_ref())
    };
    chain.first().filter(|first| is_its(first))?;
    Some(CertifiedKey::new(chain, key))
}

fn pem(data: Option<&str>, file: Option<&str>) -> Option<Vec<u8>> {
    match data {
        Some(data) => STANDARD.decode(data.trim()).ok(),
        None => std::fs::read(file?).ok(),
    }
}
