//! The least that it takes to ask a daemon over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Namespace, wait};

/// How long an answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200, 503, …
    pub status: u16,
    /// The `Content-Type`.
    pub content_type: String,
    /// The rest.
    pub body: String,
}

/// `GET`, from a namespace.
pub fn get(from: &Namespace, address: SocketAddr, path: &str) -> Result<Answer> {
    let ask = || -> Result<Answer> {
        let mut stream = TcpStream::connect_timeout(&address, wait::scaled(PATIENCE))?;
        stream.set_read_timeout(Some(wait::scaled(PATIENCE)))?;
        exchange(&mut stream, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"), "")
    };
    from.run(ask)?.with_context(|| format!("from {}: http://{address}{path}", from.name()))
}

/// Asks on a connection that is there. The head says HTTP/1.0, the version in which the answer ends with the connection.
pub(crate) fn exchange(stream: &mut (impl Read + Write), head: &str, body: &str) -> Result<Answer> {
    stream.write_all([head, body].concat().as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    parse(&text).with_context(|| format!("no HTTP: {text:?}"))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let content_type = lines.find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("Content-Type").then(|| value.to_owned())
    });
    Some(Answer { status, content_type: content_type.unwrap_or_default(), body: body.to_owned() })
}
