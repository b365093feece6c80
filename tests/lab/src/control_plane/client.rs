//! Questions to a Kubernetes API server, and watches. Each is a connection of its own, over TLS, in the version of HTTP in which the answer
//! ends with the connection: nothing outlives a server that is killed.

use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::client::WantsClientCert;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::http::{self, Answer};
use crate::{Namespace, wait};

pub(super) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Which servers are believed, and what is shown to them.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// Those with a certificate of this authority, PEM.
    pub fn new(authority: &str) -> Result<Self> {
        Ok(Self(Arc::new(verified(authority)?.with_no_client_auth())))
    }

    /// The same for a client that shows a certificate, given with its key, PEM.
    pub fn with_certificate(authority: &str, certificate: &str, key: &str) -> Result<Self> {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("a client's key")?;
        let config =
            verified(authority)?.with_client_auth_cert(chain.context("a client's certificate")?, key)?;
        Ok(Self(Arc::new(config)))
    }
}

fn verified(authority: &str) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate.context("the authority's certificate")?)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots))
}

/// How a `PATCH` is to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    /// RFC 7396: lists are replaced, `null` removes.
    Merge,
    /// Kubernetes' own: lists are merged by the key that the type's definition names.
    StrategicMerge,
}

impl Patch {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Merge => "application/merge-patch+json",
            Self::StrategicMerge => "application/strategic-merge-patch+json",
        }
    }
}

/// Somebody who asks, from somewhere.
#[derive(Clone, Debug)]
pub struct Client {
    from: Namespace,
    address: SocketAddr,
    trust: Trust,
    token: Option<String>,
    accept: String,
}

impl Client {
    /// One that asks with a token, or without.
    pub fn new(from: Namespace, address: SocketAddr, trust: Trust, token: Option<String>) -> Self {
        Self { from, address, trust, token, accept: "application/json".to_owned() }
    }

    /// The same, for answers in another form, such as `application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1`.
    #[must_use]
    pub fn accepting(&self, accept: &str) -> Self {
        Self { accept: accept.to_owned(), ..self.clone() }
    }

    /// `GET`; a path may have a query.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.ask("GET", path, None)
    }

    /// `POST`
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.ask("POST", path, Some(("application/json", body)))
    }

    /// `PUT`
    pub fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.ask("PUT", path, Some(("application/json", body)))
    }

    /// `PATCH`
    pub fn patch(&self, path: &str, kind: Patch, body: &Value) -> Result<Answer> {
        self.ask("PATCH", path, Some((kind.media_type(), body)))
    }

    /// `DELETE`
    pub fn delete(&self, path: &str) -> Result<Answer> {
        self.ask("DELETE", path, None)
    }

    /// Any method, with a body of a media type, or without one.
    pub fn ask(&self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<Answer> {
        let text = body.map(|(_, value)| value.to_string()).unwrap_or_default();
        let head = self.head(method, path, body.map(|(media_type, _)| media_type), text.len())?;
        let ask = || http::exchange(&mut self.connect()?, &head, &text);
        ask().with_context(|| format!("from {}: {method} https://{}{path}", self.from.name(), self.address))
    }

    /// `GET` of what has no end but that which the query names.
    pub fn watch(&self, path: &str) -> Result<Watch> {
        let watch = || {
            let mut stream = self.connect()?;
            let head = self.head("GET", path, None, 0)?;
            std::io::Write::write_all(&mut stream, head.as_bytes())?;
            Watch::read_head(BufReader::new(stream))
        };
        watch().with_context(|| format!("from {}: watch https://{}{path}", self.from.name(), self.address))
    }

    pub(super) fn connect(&self) -> Result<Stream> {
        let patience = wait::scaled(http::PATIENCE);
        let socket = self.from.run(|| TcpStream::connect_timeout(&self.address, patience))??;
        socket.set_read_timeout(Some(patience))?;
        let name = ServerName::IpAddress(self.address.ip().into());
        Ok(StreamOwned::new(ClientConnection::new(Arc::clone(&self.trust.0), name)?, socket))
    }

    fn head(&self, method: &str, path: &str, media_type: Option<&str>, length: usize) -> Result<String> {
        self.head_of("HTTP/1.0", method, path, media_type, length)
    }

    pub(super) fn head_of(
        &self,
        version: &str,
        method: &str,
        path: &str,
        media_type: Option<&str>,
        length: usize,
    ) -> Result<String> {
        let mut head = format!("{method} {path} {version}\r\nHost: {}\r\n", self.address);
        write!(head, "Accept: {}\r\n", self.accept)?;
        if let Some(token) = &self.token {
            write!(head, "Authorization: Bearer {token}\r\n")?;
        }
        if let Some(media_type) = media_type {
            write!(head, "Content-Type: {media_type}\r\nContent-Length: {length}\r\n")?;
        }
        Ok(head + "\r\n")
    }
}

impl Answer {
    /// The body of an answer that is to say that all went well.
    pub fn object(&self) -> Result<Value> {
        ensure!((200..300).contains(&self.status), "HTTP {}: {}", self.status, self.body.trim());
        self.json()
    }

    /// The body of any answer in JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("no JSON: {:?}", self.body))
    }
}

/// A watch that the server has begun to answer.
#[derive(Debug)]
pub struct Watch {
    stream: BufReader<Stream>,
}

impl Watch {
    fn read_head(mut stream: BufReader<Stream>) -> Result<Self> {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).unwrap_or_default().to_owned();
        ensure!(status == "200", "a watch was answered with {line:?}");
        while line.trim_end() != "" {
            line.clear();
            stream.read_line(&mut line)?;
        }
        Ok(Self { stream })
    }

    /// Waits for the next event: an object with `type` and `object`. None: the server has ended the watch. An error if nothing comes for
    /// as long as an answer may take.
    pub fn next_event(&mut self) -> Result<Option<Value>> {
        let mut line = String::new();
        self.stream.read_line(&mut line).context("a watch's next event")?;
        if line.is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&line).map(Some).with_context(|| format!("no JSON: {line:?}"))
    }

    /// Waits for more of whatever comes, and throws it away. Answers how many bytes there were; none: the server has ended the watch.
    pub fn pass_over(&mut self) -> Result<usize> {
        let length = self.stream.fill_buf().context("more of a watch")?.len();
        self.stream.consume(length);
        Ok(length)
    }

    /// Waits for an event of a type, such as `ERROR`, and passes over others. An error if the watch ends before.
    pub fn wait_for(&mut self, kind: &str) -> Result<Value> {
        while let Some(event) = self.next_event()? {
            if event["type"] == kind {
                return Ok(event["object"].clone());
            }
        }
        anyhow::bail!("the watch ended without an event of the type {kind}")
    }
}
