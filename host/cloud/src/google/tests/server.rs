//! A metadata service and token endpoint on loopback.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A question: the request line, the headers as they came, and the body.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub line: String,
    pub head: String,
    pub body: String,
}

/// Status, header lines, body.
pub(super) type Reply = (u16, &'static str, String);

/// A server that answers with a function, and remembers what it was asked.
pub(super) struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Question>>>,
    _running: JoinSet<()>,
}

impl Server {
    pub(super) async fn start(answer: impl Fn(&Question) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut running = JoinSet::new();
        let seen = Arc::clone(&asked);
        running.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(question) = read(&mut stream).await else { continue };
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(question.clone());
                let (status, headers, body) = answer(&question);
                let length = body.len();
                let text = format!("HTTP/1.1 {status} -\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
                // A client that goes away is none of our business.
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        Self { address, asked, _running: running }
    }

    /// All questions so far.
    pub(super) fn asked(&self) -> Vec<Question> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn read(stream: &mut TcpStream) -> Option<Question> {
    let mut text = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        text.extend_from_slice(&part[..count]);
        let whole = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = whole.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap_or(0)) {
            let line = whole.lines().next()?.to_owned();
            return Some(Question { line, head, body: body.to_owned() });
        }
    }
}
