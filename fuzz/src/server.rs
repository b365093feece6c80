//! A server on loopback that answers all that is asked with what the fuzzer makes up.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::runtime::{Builder, Runtime};

/// The server, and the runtime of its clients.
pub struct Server {
    address: SocketAddr,
    answers: Arc<Mutex<Vec<Vec<u8>>>>,
    runtime: Runtime,
}

impl Server {
    /// The one there is.
    pub fn of_this_process() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("an address");
            let answers = Arc::default();
            let served = Arc::clone(&answers);
            std::thread::spawn(move || {
                listener.incoming().flatten().for_each(|stream| drop(serve(stream, &served)));
            });
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            Self { address, answers, runtime }
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The runtime.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Answers from now on with these bytes, one part after the other: they end where there is a zero.
    pub fn answer_with(&self, bytes: &[u8]) {
        let mut parts: Vec<Vec<u8>> = bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        parts.reverse();
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = parts;
    }
}

fn serve(mut stream: TcpStream, answers: &Mutex<Vec<Vec<u8>>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line != "\r\n" {
        line.clear();
    }
    let body = answers.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
    let body = body.unwrap_or_default();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nmetadata-flavor: Google\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}
