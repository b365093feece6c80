//! The least of an OCI registry: one component under one tag, to be pulled over plain HTTP on a node's loopback. Others are pushed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::{Shutdown, shutdown};
use sha2::{Digest, Sha256};

use crate::{Namespace, wait};

const REPOSITORY: &str = "/v2/plugins/test";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// How long a client may take for its question.
const PATIENCE: Duration = Duration::from_secs(10);

/// A registry that serves until it is dropped.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    digest: String,
    asked: Arc<AtomicUsize>,
    pages: Arc<Mutex<Pages>>,
    listener: OwnedFd,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Media type and content of each path.
type Pages = BTreeMap<String, (&'static str, Vec<u8>)>;

/// What a client asks for.
struct Question {
    method: String,
    path: String,
    body: Vec<u8>,
}

impl Registry {
    /// Serves a component as `oci://ADDRESS/plugins/test:v1` on the loopback of a namespace.
    pub fn start(namespace: &Namespace, component: &Path) -> Result<Self> {
        let component = std::fs::read(component).with_context(|| component.display().to_string())?;
        let config = b"{}".to_vec();
        let descriptor = |media_type: &str, bytes: &[u8]| serde_json::json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() });
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("application/vnd.wasm.config.v0+json", &config),
            "layers": [descriptor("application/wasm", &component)],
        });
        let manifest = manifest.to_string().into_bytes();
        let manifest_digest = digest(&manifest);
        let pages = Pages::from([
            (format!("{REPOSITORY}/manifests/v1"), (MANIFEST, manifest.clone())),
            (format!("{REPOSITORY}/manifests/{manifest_digest}"), (MANIFEST, manifest)),
            (format!("{REPOSITORY}/blobs/{}", digest(&config)), ("application/octet-stream", config)),
            (format!("{REPOSITORY}/blobs/{}", digest(&component)), ("application/octet-stream", component)),
        ]);
        let pages = Arc::new(Mutex::new(pages));
        let listener = namespace.run(|| TcpListener::bind("127.0.0.1:0"))?.context("cannot listen")?;
        let address = listener.local_addr().context("an address")?;
        let end = OwnedFd::from(listener.try_clone().context("a second descriptor")?);
        let asked = Arc::new(AtomicUsize::new(0));
        let (counter, shared) = (Arc::clone(&asked), Arc::clone(&pages));
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                counter.fetch_add(1, Ordering::Relaxed);
                // A client that goes away is none of our business.
                let _ = answer(&stream, &shared);
            }
        });
        Ok(Self { address, digest: manifest_digest, asked, pages, listener: end, thread: Some(thread) })
    }

    /// What it serves, by its tag.
    pub fn tag(&self) -> String {
        format!("oci://{}/plugins/test:v1", self.address)
    }

    /// What it serves, pinned.
    pub fn pinned(&self) -> String {
        format!("{}@{}", self.tag(), self.digest)
    }

    /// What it has below its repository: `manifests/v1`, `blobs/sha256:…`.
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.get(&format!("{REPOSITORY}/{path}")).map(|(_, content)| content.clone())
    }

    /// How many requests there were.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Ends the wait for the next client, and with it the thread.
        let _ = shutdown(&self.listener, Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: &TcpStream, pages: &Mutex<Pages>) -> Result<()> {
    stream.set_read_timeout(Some(wait::scaled(PATIENCE)))?;
    let question = Question::read(stream)?;
    let (status, header, media_type, body) = {
        let mut pages = pages.lock().unwrap_or_else(PoisonError::into_inner);
        match question.method.as_str() {
            "POST" => ("202 Accepted", format!("Location: {REPOSITORY}/blobs/uploads/1\r\n"), "", Vec::new()),
            "PUT" => {
                question.take(&mut pages);
                ("201 Created", String::new(), "", Vec::new())
            }
            _ => match pages.get(&question.path) {
                Some((media_type, body)) => ("200 OK", String::new(), *media_type, body.clone()),
                None => ("404 Not Found", String::new(), "text/plain", Vec::new()),
            },
        }
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{header}Content-Type: {media_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    Ok(stream.write_all(&body)?)
}

impl Question {
    fn read(stream: &TcpStream) -> Result<Self> {
        let mut reader = BufReader::new(stream);
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let mut words = first.split(' ').map(ToOwned::to_owned);
        let (method, path) = words.next().zip(words.next()).context("a question")?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse()?;
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Self { method, path, body })
    }

    /// What is pushed: a blob by its digest, a manifest by its name and its digest.
    fn take(self, pages: &mut Pages) {
        let digest = digest(&self.body);
        if self.path.contains("/manifests/") {
            pages.insert(format!("{REPOSITORY}/manifests/{digest}"), (MANIFEST, self.body.clone()));
            pages.insert(self.path, (MANIFEST, self.body));
        } else {
            pages.insert(format!("{REPOSITORY}/blobs/{digest}"), ("application/octet-stream", self.body));
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        // Writing into a string does not fail.
        let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
    }
    text
}
