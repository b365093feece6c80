//! The etcd behind an API server, asked by its HTTP gateway: nothing here needs etcdctl.

use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{Namespace, http, wait};

/// Forgets all revisions before the present one. Answers which that is.
pub fn compact(namespace: &Namespace, etcd: SocketAddr) -> Result<i64> {
    // No key is called so; every answer says which revision it is of. Keys are in base64.
    let answer = ask(namespace, etcd, "/v3/kv/range", &json!({ "key": "AA==" }))?;
    let revision = answer["header"]["revision"].as_str().and_then(|revision| revision.parse::<i64>().ok());
    let revision = revision.with_context(|| format!("etcd says no revision: {answer}"))?;
    let compaction = json!({ "revision": revision.to_string(), "physical": true });
    ask(namespace, etcd, "/v3/kv/compaction", &compaction)?;
    Ok(revision)
}

fn ask(namespace: &Namespace, etcd: SocketAddr, path: &str, body: &Value) -> Result<Value> {
    let text = body.to_string();
    let head = format!("POST {path} HTTP/1.0\r\nHost: {etcd}\r\nContent-Length: {}\r\n\r\n", text.len());
    let patience = wait::scaled(http::PATIENCE);
    let mut stream = namespace.run(|| TcpStream::connect_timeout(&etcd, patience))??;
    stream.set_read_timeout(Some(patience))?;
    let answer = http::exchange(&mut stream, &head, &text).with_context(|| format!("http://{etcd}{path}"))?;
    ensure!(answer.status == 200, "http://{etcd}{path}: HTTP {}: {}", answer.status, answer.body.trim());
    answer.json()
}
