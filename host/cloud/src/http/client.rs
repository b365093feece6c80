//! Sends one request on one connection.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use flannel_base::server_trust::ServerTrust;
use flannel_base::text::{beginning, with_causes};
use flannel_privileges::with_privileges;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;

use super::error::HttpError;
use super::url::{Url, is_link_local};

/// Bytes of the longest head of an answer.
const HEAD: usize = 64 * 1024;

/// Where plain HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleartextPolicy {
    /// With this machine itself, where nobody listens in, whatever name it has.
    Loopback,
    /// With this machine itself, and with what is on the same link and has an address that says so: no router is between.
    LinkLocal,
    /// With whoever is asked for by a URL that says so.
    Anywhere,
}

impl CleartextPolicy {
    fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Loopback => address.is_loopback(),
            Self::LinkLocal => address.is_loopback() || is_link_local(address),
            Self::Anywhere => true,
        }
    }
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To be connected to, TLS included.
    pub connect: Duration,
    /// To begin with its answer, and between two pieces of it.
    pub answer: Duration,
    /// For all that is asked for together: a plugin from a registry, say.
    pub whole: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(15),
            whole: Duration::from_mins(5),
        }
    }
}

/// Sends requests.
pub struct Http {
    authorities: Option<PathBuf>,
    plain: CleartextPolicy,
    tls: OnceLock<TlsConnector>,
    times: Timeouts,
}

/// The head of an answer, and its body while it comes.
pub struct Answer {
    /// Whom it is from.
    pub url: Url,
    /// The head.
    pub response: Response<Incoming>,
    times: Timeouts,
    // Ends the connection with the answer.
    _connection: JoinSet<()>,
}

impl Http {
    /// The certificate authorities are read from the file (PEM) when they are needed.
    pub fn new(authorities: Option<PathBuf>, plain: CleartextPolicy, times: Timeouts) -> Self {
        Self { authorities, plain, tls: OnceLock::new(), times }
    }

    /// How long an answer may take.
    pub fn times(&self) -> Timeouts {
        self.times
    }

    /// Sends a request, whose URI is set here, and waits for the answer's head.
    pub async fn send(
        &self,
        url: &Url,
        mut request: Request<Full<Bytes>>,
        patience: Duration,
    ) -> Result<Answer, HttpError> {
        let away = |reason: String| HttpError::Interrupted { url: url.shown(), reason };
        let unconnected = |reason: String| HttpError::ConnectFailed { url: url.shown(), reason };
        let broken = || HttpError::BadUrl { url: url.shown() };
        *request.uri_mut() = url.path.parse().map_err(|_| broken())?;
        request.headers_mut().insert(HOST, url.authority().parse().map_err(|_| broken())?);
        let agent = concat!("flanneld/", env!("CARGO_PKG_VERSION"));
        request.headers_mut().insert(USER_AGENT, hyper::header::HeaderValue::from_static(agent));
        let tls = if url.secure { Some(self.tls()?) } else { None };
        let connected = timeout(self.times.connect, connect(url, tls, self.plain)).await;
        let stream = match connected {
            Err(_) => return Err(unconnected("no answer in time".to_owned())),
            Ok(Err(error)) => return Err(unconnected(said(&error))),
            Ok(Ok(stream)) => stream,
        };
        let mut builder = http1::Builder::new();
        let (mut sender, connection) = builder
            .max_buf_size(HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| away(said(&error)))?;
        let mut running = JoinSet::new();
        // What goes wrong there is seen at the other end of it, by the request or the body.
        running.spawn(async move { drop(connection.await) });
        let response = timeout(patience, sender.send_request(request)).await;
        let response = response.map_err(|_| away("no answer in time".to_owned()))?;
        let response = response.map_err(|error| away(said(&error)))?;
        Ok(Answer { url: url.clone(), response, times: self.times, _connection: running })
    }

    fn tls(&self) -> Result<&TlsConnector, HttpError> {
        if let Some(ready) = self.tls.get() {
            return Ok(ready);
        }
        let made = self.connector().map_err(HttpError::Authorities)?;
        Ok(self.tls.get_or_init(|| made))
    }

    fn connector(&self) -> Result<TlsConnector, String> {
        let Some(file) = &self.authorities else {
            return Err("this system has no file of them; SSL_CERT_FILE can name one".to_owned());
        };
        let pem = with_privileges(|| std::fs::read(file))
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let trust = ServerTrust::from_pem(&pem).ok_or_else(|| format!("{} has none", file.display()))?;
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust))
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

impl Answer {
    /// The whole body, which must not have more bytes than the limit.
    pub async fn body(mut self, what: &'static str, limit: usize) -> Result<Vec<u8>, HttpError> {
        let away = |url: &Url, reason: String| HttpError::Interrupted { url: url.shown(), reason };
        let mut bytes = Vec::new();
        loop {
            let frame = timeout(self.times.answer, self.response.frame()).await;
            let frame = frame.map_err(|_| away(&self.url, "the answer stops in the middle".to_owned()))?;
            let Some(frame) = frame else { return Ok(bytes) };
            let frame =
                frame.map_err(|error| away(&self.url, format!("the answer breaks off: {}", said(&error))))?;
            let data = frame.into_data().unwrap_or_default();
            if data.len() > limit - bytes.len() {
                return Err(HttpError::TooLarge { url: self.url.shown(), what, limit });
            }
            bytes.extend_from_slice(&data);
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(
    url: &Url,
    tls: Option<&TlsConnector>,
    plain: CleartextPolicy,
) -> std::io::Result<Box<dyn Stream>> {
    let addresses = lookup_host((url.host.as_str(), url.port)).await?;
    // A name such as localhost says little about where it leads.
    let addresses: Vec<SocketAddr> =
        addresses.filter(|address| url.secure || plain.allows(address.ip())).collect();
    if addresses.is_empty() {
        return Err(std::io::Error::other("it has no address that may be talked to without TLS"));
    }
    let stream = TcpStream::connect(&addresses[..]).await?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(url.host.clone()).map_err(std::io::Error::other)?;
    Ok(Box::new(tls.connect(name, stream).await?))
}

/// An error with its causes.
fn said(error: &dyn std::error::Error) -> String {
    beginning(&with_causes(error), 300)
}
