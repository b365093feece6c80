//! The least of an HTTP server: one request on one connection, as many connections at the same time as come.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::net::{Shutdown, shutdown};

use crate::{Namespace, wait};

/// How long a client may take for its question.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the longest body.
const BODY: u64 = 1 << 20;

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who asks.
    pub from: IpAddr,
    /// `GET`
    pub method: String,
    /// Path with the query, as it came.
    pub target: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Question {
    /// A header's value; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The query, as it came; empty where there is none.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// Parameters of a text such as `a=1&b=%20`: of the query, or of a form.
    pub fn parameters(text: &str) -> Vec<(String, String)> {
        form_urlencoded::parse(text.as_bytes()).into_owned().collect()
    }
}

/// What comes back.
#[derive(Clone, Debug)]
pub enum Reply {
    /// An answer.
    Whole {
        /// 200, …
        status: u16,
        /// Besides those about the length and the connection.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// The head and so many bytes of the body, and then the connection's end.
    Half(Vec<u8>, usize),
    /// Nothing for so long, and then the connection's end.
    Silence(Duration),
}

impl Reply {
    /// An answer with a body of a type.
    pub fn new(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type".to_owned(), media_type.to_owned())];
        Self::Whole { status, headers, body: body.into() }
    }
}

/// A server. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    listener: OwnedFd,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Serves at an address of a namespace; port 0: one that is free.
    pub fn start(
        namespace: &Namespace,
        address: SocketAddr,
        answer: impl Fn(&Question) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = namespace
            .run(|| TcpListener::bind(address))?
            .with_context(|| format!("cannot listen at {address} on {}", namespace.name()))?;
        let address = listener.local_addr().context("an address")?;
        let end = OwnedFd::from(listener.try_clone().context("a second descriptor")?);
        let answer = Arc::new(answer);
        let thread = std::thread::spawn(move || {
            while let Ok((stream, from)) = listener.accept() {
                let answer = Arc::clone(&answer);
                // A client that goes away, or says nothing, is none of our business.
                std::thread::spawn(move || drop(serve(&stream, from.ip(), &*answer)));
            }
        });
        Ok(Self { address, listener: end, thread: Some(thread) })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ends the wait for the next client, and with it the thread.
        let _ = shutdown(&self.listener, Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: &TcpStream, from: IpAddr, answer: &dyn Fn(&Question) -> Reply) -> Result<()> {
    stream.set_read_timeout(Some(wait::scaled(PATIENCE)))?;
    let question = read(stream, from)?;
    write(stream, &answer(&question))
}

fn read(stream: &TcpStream, from: IpAddr) -> Result<Question> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().context("a method")?, words.next().context("a path")?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut question = Question { from, method, target, headers, body: Vec::new() };
    if question.header("expect").is_some_and(|wanted| wanted.eq_ignore_ascii_case("100-continue")) {
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let length: u64 = question.header("content-length").unwrap_or("0").parse().context("a length")?;
    ensure!(length <= BODY, "a body of {length} bytes");
    reader.take(length).read_to_end(&mut question.body)?;
    Ok(question)
}

fn write(mut stream: &TcpStream, reply: &Reply) -> Result<()> {
    let head = |status: u16, headers: &[(String, String)], length: usize| {
        let mut head = format!("HTTP/1.1 {status} -\r\n");
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head + &format!("Content-Length: {length}\r\nConnection: close\r\n\r\n")
    };
    match reply {
        Reply::Whole { status, headers, body } => {
            stream.write_all(head(*status, headers, body.len()).as_bytes())?;
            stream.write_all(body)?;
        }
        Reply::Half(body, part) => {
            stream.write_all(head(200, &[], body.len()).as_bytes())?;
            stream.write_all(&body[..*part.min(&body.len())])?;
        }
        Reply::Silence(time) => std::thread::sleep(*time),
    }
    Ok(())
}
