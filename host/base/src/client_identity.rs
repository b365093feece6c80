//! What a client of TLS shows of itself, where that is a certificate of X.509 version 1: `openssl x509 -req` makes such without extensions,
//! and Go's programs show them. rustls reads a client's own certificate for nothing but to see whether the key is its, and cannot read these.

use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

/// A certificate of any version, with others of its chain behind it, and its key, PEM both. None where they cannot be read, or are not each
/// other's.
pub fn of_any_version(chain: &[u8], key: &[u8]) -> Option<CertifiedKey> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().ok()?;
    let key = PrivateKeyDer::from_pem_slice(key).ok()?;
    let key = default_provider().key_provider.load_private_key(key).ok()?;
    // RFC 5280, 4.1: the certificate has the key as the same SubjectPublicKeyInfo.
    let public = key.public_key()?;
    let is_its = |certificate: &&CertificateDer<'_>| {
        certificate.windows(public.len()).any(|part| part == public.as_ref())
    };
    chain.first().filter(is_its)?;
    Some(CertifiedKey::new(chain, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 36500`. Nobody's but the tests'.
    const CERTIFICATE: &str = include_str!("../../../tests/fixtures/x509-v1/client.crt");
    const KEY: &str = include_str!("../../../tests/fixtures/x509-v1/client.key");

    #[test]
    fn a_certificate_of_version_1_and_its_key_are_a_pair() {
        assert!(of_any_version(CERTIFICATE.as_bytes(), KEY.as_bytes()).is_some());
    }

    #[test]
    fn the_key_of_another_certificate_is_refused_and_so_is_what_cannot_be_read() {
        let other = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        assert!(of_any_version(CERTIFICATE.as_bytes(), other.as_bytes()).is_none());
        assert!(of_any_version(CERTIFICATE.as_bytes(), b"").is_none());
        assert!(of_any_version(b"", KEY.as_bytes()).is_none());
    }
}
