//! The certificate that is shown to the API server.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flannel_base::client_identity;
use kube::client::{ConfigExt, RustlsTlsError};
use kube::config::AuthInfo;
use kube::{Config, Error};
use rustls::ClientConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use secrecy::ExposeSecret;

/// What connections are secured with: as kube has it, and besides with certificates of X.509 version 1, as Go's client.
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
    let key_data = user.client_key_data.as_ref().map(ExposeSecret::expose_secret);
    client_identity::of_any_version(&chain, &pem(key_data, user.client_key.as_deref())?)
}

fn pem(data: Option<&str>, file: Option<&str>) -> Option<Vec<u8>> {
    match data {
        Some(data) => STANDARD.decode(data.trim()).ok(),
        None => std::fs::read(file?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    const CERTIFICATE: &str = include_str!("../../../../tests/fixtures/x509-v1/client.crt");
    const KEY: &str = include_str!("../../../../tests/fixtures/x509-v1/client.key");
    const AUTHORITY: &str = include_str!("../../../../tests/fixtures/x509-v1/ca.crt");

    fn config(user: AuthInfo) -> Config {
        let authority = CertificateDer::from_pem_slice(AUTHORITY.as_bytes()).expect("a certificate");
        let mut config = Config::new("https://127.0.0.1:6443".parse().expect("a URL"));
        config.root_cert = Some(vec![authority.to_vec()]);
        config.auth_info = user;
        config
    }

    #[test]
    fn a_certificate_of_version_1_is_shown_from_files_and_from_data() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: &str| {
            let file = directory.path().join(name);
            std::fs::write(&file, text).expect("a file");
            file.to_str().map(str::to_owned)
        };
        let files = AuthInfo {
            client_certificate: file("client.crt", CERTIFICATE),
            client_key: file("client.key", KEY),
            ..AuthInfo::default()
        };
        let data = AuthInfo {
            client_certificate_data: Some(STANDARD.encode(CERTIFICATE)),
            client_key_data: Some(STANDARD.encode(KEY).into()),
            ..AuthInfo::default()
        };
        for user in [files, data] {
            assert!(tls(&config(user)).expect("a configuration").client_auth_cert_resolver.has_certs());
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_also_in_version_1() {
        let other = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        let user = AuthInfo {
            client_certificate_data: Some(STANDARD.encode(CERTIFICATE)),
            client_key_data: Some(STANDARD.encode(other).into()),
            ..AuthInfo::default()
        };
        assert!(tls(&config(user)).is_err());
    }
}
