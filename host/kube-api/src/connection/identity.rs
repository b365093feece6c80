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

    /// Of version 1: `openssl x509 -req -in admin.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 36500`. Nobody's but the tests'.
    const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBPzCB5QIUc+svJa7VTFtbPo9LXfHeB6xMpkMwCgYIKoZIzj0EAwIwGTEXMBUG\n\
A1UEAwwOdGVzdC1hdXRob3JpdHkwIBcNMjYxMTMwMDQwODQ0WhgPMjEyNjExMDYw\n\
NDA4NDRaMCkxFzAVBgNVBAoMDnN5c3RlbTptYXN0ZXJzMQ4wDAYDVQQDDAVhZG1p\n\
bjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPEYgtwPTCXLQOJPhx+hmyg/IkKT\n\
oedNOOk+Kf7cx0SlaWWxtIbPGRYH+O512/vzUtfPq0d/4Ps3JbKzulsT+igwCgYI\n\
KoZIzj0EAwIDSQAwRgIhALnY94xGgau5qXpoSt79IqfELK2wY3Pce1f7Fhlkkh93\n\
AiEAph315Qgd6ITmEWhgMsd7bOv8cAYHldwAVwj8oYKtsXo=\n\
-----END CERTIFICATE-----";
    /// Its key.
    const KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgp2zr8aAjR7gp0Yo/\n\
RqCRYkYXyu6SYis+/cxFiXOT+PyhRANCAATxGILcD0wly0DiT4cfoZsoPyJCk6Hn\n\
TTjpPin+3MdEpWllsbSGzxkWB/juddv781LXz6tHf+D7NyWys7pbE/oo\n\
-----END PRIVATE KEY-----";
    const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBiDCCAS+gAwIBAgIUOQpsftIcJy1h/Wagic/TwgIW/bswCgYIKoZIzj0EAwIw\n\
GTEXMBUGA1UEAwwOdGVzdC1hdXRob3JpdHkwIBcNMjYxMTMwMDQwODQ0WhgPMjEy\n\
NjExMDYwNDA4NDRaMBkxFzAVBgNVBAMMDnRlc3QtYXV0aG9yaXR5MFkwEwYHKoZI\n\
zj0CAQYIKoZIzj0DAQcDQgAEVRiv/JGR0kUrpzcaKX3d99r/lPLuQnlynspIttps\n\
OC9DfgrItLTt+umzhOn4pqVQ3tIpM1xLcoRKyVPyTLyGiaNTMFEwHQYDVR0OBBYE\n\
FCbxd8prSYiav7/Q1pVrvclRofdUMB8GA1UdIwQYMBaAFCbxd8prSYiav7/Q1pVr\n\
vclRofdUMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgYzgBVczq\n\
7R5EiSE13MFmUXn2YsRIkPSx3craPJZr8dYCIBW63WU71RdQSq0kGm0wQgS/EaKT\n\
oEL5hhwnMjr2HU7d\n\
-----END CERTIFICATE-----";

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
