//! A registry on loopback: serves manifests and blobs, takes pushes, demands credentials, lies, and goes away.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderName, LOCATION, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::digest::Digest;
use crate::registry::manifest::{self, Annotations};

/// A running registry. It goes away when this is dropped.
pub(super) struct Server {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    _running: JoinSet<()>,
}

/// What it has, and how it behaves.
#[derive(Default)]
pub(super) struct State {
    pub manifests: HashMap<String, Vec<u8>>,
    pub blobs: HashMap<String, Vec<u8>>,
    /// Lists of referrers, by what they refer to; a registry without the API has none.
    pub referrers: HashMap<String, Vec<u8>>,
    pub door: Door,
    pub manners: Manners,
    /// `METHOD PATH`, and the `Authorization`, of all requests.
    pub seen: Vec<(String, Option<String>)>,
}

/// Whom it lets in.
#[derive(Default)]
pub(super) enum Door {
    #[default]
    Open,
    /// Those with this `Authorization`.
    Basic(String),
    /// Those with the token `the-token`, which `/token` hands out for the `Authorization`; `None` there: to everybody.
    Token { realm: String, wanted: Option<String> },
    /// Nobody, in these words.
    Shut(&'static str),
}

/// How it answers.
#[derive(Clone, Default)]
pub(super) enum Manners {
    #[default]
    Good,
    /// Manifests come with this digest in the header.
    DigestHeader(String),
    /// Blobs are these.
    Blob(Vec<u8>),
    /// Blobs break off in the middle.
    BrokenBlob,
    /// Blobs stop in the middle and do not end.
    HangingBlob,
    /// Manifests never end.
    EndlessManifest,
    /// Nothing is answered.
    Hanging,
    /// Everything is answered with this status, and with the request's own `Authorization` as the body.
    Status(u16),
    /// Blobs are elsewhere.
    Elsewhere(String),
}

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

impl Server {
    pub(super) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// With TLS.
    pub(super) async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let mut running = JoinSet::new();
        running.spawn(accept(listener, tls, Arc::clone(&state)));
        Self { address, state, _running: running }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the server did not panic")
    }

    /// Puts a component in, with its manifest under a tag. Answers the manifest's digest.
    pub(super) fn publish(&self, tag: &str, component: &[u8]) -> Digest {
        self.publish_with(tag, component, Annotations::default())
    }

    /// The same, with annotations.
    pub(super) fn publish_with(&self, tag: &str, component: &[u8], annotations: Annotations) -> Digest {
        let config = manifest::config(component);
        let manifest = manifest::compose(&config, Digest::of(component), component.len(), annotations);
        self.state().blobs.insert(Digest::of(component).to_string(), component.to_vec());
        self.publish_manifest(tag, &manifest)
    }

    /// Puts a manifest in.
    pub(super) fn publish_manifest(&self, tag: &str, manifest: &[u8]) -> Digest {
        let digest = Digest::of(manifest);
        let mut state = self.state();
        for name in [tag.to_owned(), digest.to_string()] {
            state.manifests.insert(name, manifest.to_vec());
        }
        digest
    }

    pub(super) fn reference(&self, version: &str) -> String {
        format!("oci://{}/plugins/test{version}", self.address)
    }

    /// How many requests there were.
    pub(super) fn asked(&self) -> usize {
        self.state().seen.len()
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        connections.spawn(async move {
            match tls {
                None => serve(stream, state).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, state).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&state)));
    // Clients come and go as they like.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let sent = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let authorization = head.headers.get(AUTHORIZATION).map(|value| value.to_str().expect("text").to_owned());
    let manners = {
        let mut state = state.lock().expect("the server did not panic");
        state.seen.push((format!("{} {}", head.method, head.uri), authorization.clone()));
        state.manners.clone()
    };
    match manners {
        Manners::Hanging => std::future::pending().await,
        Manners::Status(status) => {
            let echo = authorization.unwrap_or_default().into_bytes();
            return Ok(whole(StatusCode::from_u16(status).expect("a status"), echo));
        }
        _ => {}
    }
    let mut state = state.lock().expect("the server did not panic");
    Ok(state.handle(&head.method, &head.uri, authorization.as_deref(), &sent))
}

impl State {
    fn handle(
        &mut self,
        method: &Method,
        uri: &hyper::Uri,
        authorization: Option<&str>,
        sent: &[u8],
    ) -> Response<Body> {
        if let Some(refusal) = self.refusal(uri.path(), authorization) {
            return refusal;
        }
        let name = uri.path().rsplit('/').next().unwrap_or_default();
        let place = uri.path().strip_prefix("/v2/plugins/test/").unwrap_or_default();
        match (method, place.split('/').next().unwrap_or_default()) {
            (&Method::GET, "manifests") => self.manifest(name),
            (&Method::GET, "blobs") => self.blob(name),
            (&Method::GET, "referrers") => match self.referrers.get(name) {
                Some(list) => whole(StatusCode::OK, list.clone()),
                None => whole(StatusCode::NOT_FOUND, Vec::new()),
            },
            (&Method::POST, "blobs") if place == "blobs/uploads/" => {
                let there = "/v2/plugins/test/blobs/uploads/1?state=s";
                with(whole(StatusCode::ACCEPTED, Vec::new()), LOCATION, there)
            }
            (&Method::PUT, "blobs") => {
                let digest = uri.query().and_then(|query| query.rsplit_once("digest=")).expect("a digest").1;
                assert_eq!(digest.replace("%3A", ":"), Digest::of(sent).to_string());
                self.blobs.insert(Digest::of(sent).to_string(), sent.to_vec());
                whole(StatusCode::CREATED, Vec::new())
            }
            (&Method::PUT, "manifests") => {
                for name in [name.to_owned(), Digest::of(sent).to_string()] {
                    self.manifests.insert(name, sent.to_vec());
                }
                whole(StatusCode::CREATED, Vec::new())
            }
            _ => whole(StatusCode::NOT_FOUND, Vec::new()),
        }
    }

    fn refusal(&self, path: &str, authorization: Option<&str>) -> Option<Response<Body>> {
        let refused = |challenge: &str| {
            Some(with(whole(StatusCode::UNAUTHORIZED, Vec::new()), WWW_AUTHENTICATE, challenge))
        };
        match &self.door {
            Door::Open => None,
            Door::Basic(wanted) if authorization == Some(wanted) => None,
            Door::Basic(_) => refused("Basic realm=\"test\""),
            Door::Shut(challenge) => refused(challenge),
            Door::Token { wanted, .. } if path == "/token" => {
                let known = wanted.is_none() || authorization == wanted.as_deref();
                Some(if known {
                    whole(StatusCode::OK, br#"{"token":"the-token"}"#.to_vec())
                } else {
                    whole(StatusCode::UNAUTHORIZED, Vec::new())
                })
            }
            Door::Token { .. } if authorization == Some("Bearer the-token") => None,
            Door::Token { realm, .. } => refused(&format!("Bearer realm=\"{realm}\",service=\"a b\"")),
        }
    }

    fn manifest(&self, name: &str) -> Response<Body> {
        let Some(bytes) = self.manifests.get(name) else {
            return whole(StatusCode::NOT_FOUND, Vec::new());
        };
        let header = HeaderName::from_static("docker-content-digest");
        match &self.manners {
            Manners::DigestHeader(digest) => with(whole(StatusCode::OK, bytes.clone()), header, digest),
            Manners::EndlessManifest => {
                let pieces =
                    futures::stream::repeat_with(|| Ok(Frame::data(Bytes::from(vec![b' '; 65_536]))));
                Response::new(BodyExt::boxed(StreamBody::new(pieces)))
            }
            _ => with(whole(StatusCode::OK, bytes.clone()), header, &Digest::of(bytes).to_string()),
        }
    }

    fn blob(&self, name: &str) -> Response<Body> {
        let Some(bytes) = self.blobs.get(name) else { return whole(StatusCode::NOT_FOUND, Vec::new()) };
        let half = Bytes::from(bytes[..bytes.len() / 2].to_vec());
        match &self.manners {
            Manners::Blob(other) => whole(StatusCode::OK, other.clone()),
            Manners::BrokenBlob => {
                let end = async {
                    // Lets the server send what it has.
                    tokio::task::yield_now().await;
                    Ok(Frame::data(Bytes::new()))
                };
                let pieces = futures::stream::iter([Ok(Frame::data(half))]);
                let pieces = futures::StreamExt::chain(pieces, futures::stream::once(end));
                let response = Response::new(BodyExt::boxed(StreamBody::new(pieces)));
                with(response, CONTENT_LENGTH, &bytes.len().to_string())
            }
            Manners::HangingBlob => {
                let pieces = futures::stream::once(async { Ok(Frame::data(half)) });
                let pieces = futures::StreamExt::chain(pieces, futures::stream::pending());
                Response::new(BodyExt::boxed(StreamBody::new(pieces)))
            }
            Manners::Elsewhere(place) => {
                with(whole(StatusCode::TEMPORARY_REDIRECT, Vec::new()), LOCATION, place)
            }
            _ => whole(StatusCode::OK, bytes.clone()),
        }
    }
}

fn whole(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(BodyExt::boxed(Full::from(body)));
    *response.status_mut() = status;
    response
}

fn with(mut response: Response<Body>, name: HeaderName, value: &str) -> Response<Body> {
    response.headers_mut().insert(name, value.parse().expect("a header's value"));
    response
}
