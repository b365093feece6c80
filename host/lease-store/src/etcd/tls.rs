//! Certificates for etcd, from the operator's files.

use std::path::Path;
use std::sync::Arc;

use etcd_client::{Identity, TlsOptions};
use flannel_base::server_trust::ServerTrust;
use flannel_base::{ca_bundle, client_identity};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{ClientConfig, Error, InconsistentKeys};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::cluster::with_times;
use super::{EtcdSecurity, protocol};
use crate::store::StoreError;

/// What endpoints with `https` are talked to with.
#[derive(Clone)]
pub(super) struct Tls {
    options: TlsOptions,
    /// Whom we believe; `None` where there is no file of authorities, and so nobody.
    trust: Option<Arc<ServerTrust>>,
    /// What we show to etcd.
    shown: Option<Arc<CertifiedKey>>,
    /// Tonic's own TLS cannot show it.
    is_unusual: bool,
}

impl Tls {
    /// Reads the files. A CA file counts with or without a client certificate.
    pub(super) fn read(security: &EtcdSecurity) -> Result<Self, StoreError> {
        const CA_FILE: &str = "etcd CA file";
        let trust = match &security.cafile {
            Some(file) => {
                let trust = ServerTrust::from_pem(&read(CA_FILE, file, "CERTIFICATE")?);
                Some(trust.ok_or_else(|| wrong(CA_FILE, file, "none of its certificates can be read"))?)
            }
            None => ca_bundle::file()
                .and_then(|file| std::fs::read(file).ok())
                .and_then(|roots| ServerTrust::from_pem(&roots)),
        };
        let (mut options, mut shown, mut is_unusual) = (TlsOptions::new(), None, false);
        match (&security.certfile, &security.keyfile) {
            (Some(certificate), Some(key)) => {
                let (identity, pair) = identity(certificate, key)?;
                (shown, is_unusual) = (Some(Arc::new(pair)), identity.is_none());
                if let Some(identity) = identity {
                    options = options.identity(identity);
                }
            }
            (None, None) => {}
            (Some(file), None) => return Err(wrong(CERTIFICATE_FILE, file, "it needs a key file, too")),
            (None, Some(file)) => return Err(wrong(KEY_FILE, file, "it needs a certificate file, too")),
        }
        Ok(Self { options, trust: trust.map(Arc::new), shown, is_unusual })
    }

    /// Whether etcd does not take the certificate that we show, or that we show none. `place`: host and port.
    pub(super) async fn refuses_us(&self, place: &str) -> bool {
        match self.connector() {
            Some(connector) => protocol::refuses_client(place, host(place), &connector).await,
            None => false,
        }
    }

    /// For connections other than etcd's client makes; they say HTTP/2 as that does.
    fn connector(&self) -> Option<TlsConnector> {
        let trust = Arc::clone(self.trust.as_ref()?);
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(trust);
        let mut config = match &self.shown {
            Some(pair) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(pair))))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Some(TlsConnector::from(Arc::new(config)))
    }

    /// The endpoint, with TLS.
    pub(super) fn of(&self, endpoint: Endpoint) -> Result<Endpoint, tonic::transport::Error> {
        match &self.trust {
            Some(trust) => endpoint.tls_config_with_verifier(self.options.clone(), Arc::clone(trust) as _),
            None => endpoint.tls_config(self.options.clone()),
        }
    }

    /// A channel to such an endpoint. `place`: host and port.
    pub(super) fn channel(&self, endpoint: &Endpoint, place: &str) -> Channel {
        let name = ServerName::try_from(host(place).to_owned());
        let (Some(tls), Ok(name)) = (self.connector().filter(|_| self.is_unusual), name) else {
            return endpoint.connect_lazy();
        };
        let place = place.to_owned();
        // Tonic asks whoever connects for TLS by itself, unless the URL is one without.
        let bare = Uri::builder().scheme("http").authority(place.as_str()).path_and_query("/").build();
        let Ok(bare) = bare else { return endpoint.connect_lazy() };
        let bare = with_times(Endpoint::from(bare)).origin(endpoint.uri().clone());
        bare.connect_with_connector_lazy(service_fn(move |_: Uri| {
            let (tls, place, name) = (tls.clone(), place.clone(), name.clone());
            async move {
                let stream = TcpStream::connect(place).await?;
                stream.set_nodelay(true)?;
                tls.connect(name, stream).await.map(TokioIo::new)
            }
        }))
    }
}

fn host(place: &str) -> &str {
    place.rsplit_once(':').map_or(place, |(host, _)| host).trim_matches(['[', ']'])
}

const CERTIFICATE_FILE: &str = "etcd certificate file";
const KEY_FILE: &str = "etcd key file";

/// What we show to etcd, for its client and for others. Two files that do not belong together would only be seen as a handshake that fails.
/// Without the first, where it is of a version that etcd's client does not read.
fn identity(certificate: &Path, key: &Path) -> Result<(Option<Identity>, CertifiedKey), StoreError> {
    let chain_pem = read(CERTIFICATE_FILE, certificate, "CERTIFICATE")?;
    let key_pem = read(KEY_FILE, key, "PRIVATE KEY")?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain_pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(CERTIFICATE_FILE, certificate, &format!("it cannot be read: {error}")))?;
    if chain.is_empty() {
        return Err(wrong(CERTIFICATE_FILE, certificate, "none of its certificates can be read"));
    }
    let private = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| {
        wrong(
            KEY_FILE,
            key,
            "its key cannot be read; right would be one that is not encrypted (PKCS #8, PKCS #1, SEC 1)",
        )
    })?;
    match CertifiedKey::from_der(chain, private, &default_provider()) {
        Ok(pair) => Ok((Some(Identity::from_pem(chain_pem, key_pem)), pair)),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let reason = format!("it is not the key of the certificate in {}", certificate.display());
            Err(wrong(KEY_FILE, key, &reason))
        }
        Err(Error::InvalidCertificate(error)) => {
            match client_identity::of_any_version(&chain_pem, &key_pem) {
                Some(pair) => Ok((None, pair)),
                None => Err(wrong(
                    CERTIFICATE_FILE,
                    certificate,
                    &format!("its certificate cannot be used: {error}"),
                )),
            }
        }
        Err(error) => Err(wrong(KEY_FILE, key, &format!("its key cannot be used: {error}"))),
    }
}

fn wrong(what: &'static str, file: &Path, reason: &str) -> StoreError {
    StoreError::Setup { what, value: file.display().to_string(), reason: reason.to_owned() }
}

fn read(what: &'static str, file: &Path, label: &str) -> Result<Vec<u8>, StoreError> {
    let bytes =
        std::fs::read(file).map_err(|error| wrong(what, file, &format!("it cannot be read: {error}")))?;
    // Found here, a mistake has a name; found later, it is a failed handshake.
    let is_pem = String::from_utf8_lossy(&bytes)
        .lines()
        .any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{label}-----")));
    if is_pem { Ok(bytes) } else { Err(wrong(what, file, &format!("it has no PEM block of a {label}"))) }
}
