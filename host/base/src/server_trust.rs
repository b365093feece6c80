//! Which servers a client of TLS believes: those with a certificate that an authority has signed, and those whose very certificate the
//! operator has given as one to trust.
//!
//! The second is what Go's programs do, and operators make certificates that need it: one that is signed with its own key and is its
//! own authority (`openssl req -x509` makes such), or a server's own in the place of its authority's.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

/// Checks servers' certificates.
#[derive(Debug)]
pub struct ServerTrust {
    authorities: Arc<WebPkiServerVerifier>,
    /// Each as it is.
    trusted: Vec<CertificateDer<'static>>,
}

impl ServerTrust {
    /// Trusts the certificates of a file, PEM. As other programs do, it leaves out what it does not understand; `None` if nothing is
    /// left.
    pub fn from_pem(pem: &[u8]) -> Option<Self> {
        let trusted: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem).flatten().collect();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        let authorities =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
                .build();
        authorities.ok().map(|authorities| Self { authorities, trusted })
    }
}

impl ServerCertVerifier for ServerTrust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let outcome =
            self.authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match outcome {
            Err(error) if is_of_no_authority(&error) && self.trusted.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// Whether nothing but an authority's signature is missing: the time in which a certificate is valid is looked at before any of these,
/// its name after them.
fn is_of_no_authority(error: &Error) -> bool {
    match error {
        // The signature is another's where an authority of the same name is trusted.
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => true,
        Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
            matches!(cause.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate for `etcd.example` that is signed with its own key.
    fn own_authority(change: impl FnOnce(&mut CertificateParams)) -> rcgen::Certificate {
        let mut params = CertificateParams::new(vec!["etcd.example".to_owned()]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        params.self_signed(&KeyPair::generate().expect("key")).expect("certificate")
    }

    fn check(trusted: &rcgen::Certificate, shown: &rcgen::Certificate, name: &str) -> Result<(), Error> {
        let trust = ServerTrust::from_pem(trusted.pem().as_bytes()).expect("a certificate");
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        trust.verify_server_cert(shown.der(), &[], &name, &[], UnixTime::now()).map(|_| ())
    }

    #[test]
    fn a_server_that_is_its_own_authority_is_believed() {
        let certificate = own_authority(|_| {});
        assert_eq!(check(&certificate, &certificate, "etcd.example"), Ok(()));
    }

    #[test]
    fn a_servers_own_certificate_will_do_in_the_place_of_its_authoritys() {
        use rcgen::CertifiedIssuer;
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key"));
        let params = CertificateParams::new(vec!["etcd.example".to_owned()]).expect("parameters");
        let signed = params.signed_by(&KeyPair::generate().expect("key"), &authority.expect("authority"));
        let certificate = signed.expect("certificate");
        assert_eq!(check(&certificate, &certificate, "etcd.example"), Ok(()));
    }

    #[test]
    fn another_name_than_the_certificates_is_refused() {
        let certificate = own_authority(|_| {});
        let refused = check(&certificate, &certificate, "other.example");
        let wrong_name = |error: &Error| {
            use CertificateError::{NotValidForName, NotValidForNameContext};
            matches!(error, Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
        };
        assert!(refused.as_ref().is_err_and(wrong_name), "{refused:?}");
    }

    #[test]
    fn a_certificate_that_is_over_or_not_valid_yet_is_refused() {
        for (from, until) in [((2001, 1, 1), (2002, 1, 1)), ((2999, 1, 1), (3000, 1, 1))] {
            let certificate = own_authority(|params| {
                params.not_before = date_time_ymd(from.0, from.1, from.2);
                params.not_after = date_time_ymd(until.0, until.1, until.2);
            });
            let refused = check(&certificate, &certificate, "etcd.example");
            assert!(refused.is_err(), "{from:?} to {until:?}");
        }
    }

    #[test]
    fn one_that_only_has_the_name_and_issuer_of_a_trusted_one_is_refused() {
        let (trusted, other) = (own_authority(|_| {}), own_authority(|_| {}));
        assert!(check(&trusted, &other, "etcd.example").is_err());
    }

    #[test]
    fn where_there_is_nothing_to_trust_there_is_no_trust() {
        assert!(ServerTrust::from_pem(b"").is_none());
        assert!(
            ServerTrust::from_pem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
                .is_none()
        );
    }
}
