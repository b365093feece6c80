//! Takes requests, and answers all but watches.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::faults::Kind;
use crate::nodes::{partial, status};
use crate::state::{Request, State};
use crate::{Shared, watch};

/// Bytes of a piece of an answer.
const PIECE: usize = 700;

/// The pieces of an answer, as somebody else sends them.
pub(crate) struct Pieces(mpsc::Receiver<Result<Bytes, Error>>);
pub(crate) type PieceSender = mpsc::Sender<Result<Bytes, Error>>;

impl Body for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

pub(crate) async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            let Some(tls) = tls else { return serve(stream, shared, None).await };
            if let Ok(stream) = tls.accept(stream).await {
                let shown = stream.get_ref().1.peer_certificates();
                let shown = shown.and_then(|chain| chain.first()).map(|first| first.to_vec());
                serve(stream, shared, shown).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve<S>(stream: S, shared: Arc<Shared>, certificate: Option<Vec<u8>>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (shared, certificate) = (Arc::clone(&shared), certificate.clone());
        async move { Ok::<_, Infallible>(answer(record(request, certificate).await, shared).await) }
    });
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn record(request: hyper::Request<Incoming>, certificate: Option<Vec<u8>>) -> Request {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Request {
        method: head.method.to_string(),
        uri: head.uri.to_string(),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
        certificate,
    }
}

async fn answer(request: Request, shared: Arc<Shared>) -> Response<Pieces> {
    let (fault, wanted) = {
        let mut state = shared.state();
        state.requests.push(request.clone());
        (state.fault(&request.line()), state.token.clone())
    };
    let shown = request.headers.get("authorization").cloned().unwrap_or_default();
    if wanted.is_some_and(|wanted| shown != format!("Bearer {wanted}")) {
        return whole(401, &status(401, "Unauthorized"), None);
    }
    match fault.clone() {
        Some(Kind::Status { code, message, retry_after }) => {
            let mut response = whole(code, &status(code, &message), None);
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
            }
            return response;
        }
        Some(Kind::Body(body)) => return send(200, body, None),
        Some(Kind::ErrorEvent { code, message }) => {
            let event = json!({"type": "ERROR", "object": status(code, &message)});
            return send(200, format!("{event}\n"), None);
        }
        Some(Kind::Silence) => std::future::pending().await,
        _ => {}
    }
    let (path, query) = request.uri.split_once('?').unwrap_or((&request.uri, ""));
    let query: HashMap<String, String> = query.split('&').filter_map(parameter).collect();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (request.method.parse::<Method>(), &segments[..]) {
        (Ok(Method::GET), ["api", "v1", "nodes"]) if query.contains_key("watch") => {
            watch::answer(&request, query, shared, fault)
        }
        (Ok(Method::GET), ["api", "v1", "nodes"]) => {
            let (code, body) = list(&mut shared.state(), &query);
            whole(code, &body, fault)
        }
        (Ok(Method::GET), ["api", "v1", "nodes", name]) => {
            let found = shared.state().nodes.get(*name).cloned();
            let is_partial = request.headers.get("accept").is_some_and(|accept| accept.contains("Partial"));
            found_or_not(found.map(|node| if is_partial { partial(&node) } else { node }), name, fault)
        }
        (Ok(Method::PATCH), ["api", "v1", "nodes", name, "status"]) => {
            let kind = request.headers.get("content-type").map(String::as_str);
            if kind != Some("application/strategic-merge-patch+json") {
                return whole(415, &status(415, "the body of the request was in an unknown format"), None);
            }
            match serde_json::from_str(&request.body) {
                Ok(patch) => found_or_not(shared.change(|state| state.patch(name, &patch)), name, fault),
                Err(error) => whole(400, &status(400, &error.to_string()), None),
            }
        }
        (Ok(Method::GET), ["api", "v1", "namespaces", namespace, "pods", name]) => {
            let key = ((*namespace).to_owned(), (*name).to_owned());
            found_or_not(shared.state().pods.get(&key).cloned(), name, fault)
        }
        _ => whole(404, &status(404, "the server could not find the requested resource"), None),
    }
}

fn parameter(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.to_owned(), value.replace("%3D", "=").replace("%3A", ":")))
}

/// The name that a query selects.
pub(crate) fn only(query: &HashMap<String, String>) -> Option<&str> {
    query.get("fieldSelector")?.strip_prefix("metadata.name=")
}

fn list(state: &mut State, query: &HashMap<String, String>) -> (u16, Value) {
    if let Some(version) = query.get("resourceVersion") {
        let version: u64 = version.parse().unwrap_or(0);
        if version > state.version {
            return (504, status(504, &format!("Too large resource version: {version}")));
        }
        // The limit is ignored here.
        return (200, page(&state.selected(only(query)), state.version, ""));
    }
    let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let limit = limit.min(state.largest_page);
    let token = query.get("continue").and_then(|token| token.split_once(':'));
    let (version, start) = if let Some((version, start)) = token {
        (version.parse().unwrap_or(0), start.parse().unwrap_or(0_usize))
    } else {
        let all = state.selected(only(query));
        state.snapshots.insert(state.version, all);
        (state.version, 0)
    };
    let Some(all) = state.snapshots.get(&version) else {
        return (410, status(410, "The provided continue parameter is too old"));
    };
    let end = all.len().min(start.saturating_add(limit));
    let more = if end < all.len() { format!("{version}:{end}") } else { String::new() };
    (200, page(&all[start..end], version, &more))
}

fn page(items: &[Value], version: u64, more: &str) -> Value {
    let metadata = json!({"resourceVersion": version.to_string(), "continue": more});
    json!({"kind": "NodeList", "apiVersion": "v1", "metadata": metadata, "items": items})
}

fn found_or_not(found: Option<Value>, name: &str, fault: Option<Kind>) -> Response<Pieces> {
    match found {
        Some(found) => whole(200, &found, fault),
        None => whole(404, &status(404, &format!("{name:?} not found")), None),
    }
}

pub(crate) fn whole(code: u16, body: &Value, fault: Option<Kind>) -> Response<Pieces> {
    send(code, body.to_string(), fault)
}

fn send(code: u16, body: String, fault: Option<Kind>) -> Response<Pieces> {
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(async move {
        let body = body.into_bytes();
        let half = body.len() / 2;
        for (number, piece) in body.chunks(PIECE.min(half.max(1))).enumerate() {
            match fault {
                Some(Kind::Cut) if number > 0 => {
                    return drop(sender.send(Err(Error::other("cut"))).await);
                }
                Some(Kind::Stop) if number > 0 => return std::future::pending().await,
                Some(Kind::Slow(pause)) => tokio::time::sleep(pause).await,
                _ => {}
            }
            if sender.send(Ok(Bytes::copy_from_slice(piece))).await.is_err() {
                return;
            }
        }
        // Whoever cuts lets what was sent before arrive.
        tokio::time::sleep(Duration::ZERO).await;
    });
    respond(code, pieces)
}

pub(crate) fn respond(code: u16, pieces: mpsc::Receiver<Result<Bytes, Error>>) -> Response<Pieces> {
    let mut response = Response::new(Pieces(pieces));
    *response.status_mut() = hyper::StatusCode::from_u16(code).expect("a status");
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}
