//! A port of a node behind which a server somewhere else answers, as some distributions have one for the API server on each node.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::Namespace;

/// The port. It is closed when this is dropped; connections stay until one of their ends closes them.
#[derive(Debug)]
pub struct Forwarder {
    namespace: Namespace,
    address: SocketAddr,
    ends: Arc<AtomicBool>,
}

impl Forwarder {
    /// Listens at an address of a namespace, from which the server is reached.
    pub fn start(namespace: &Namespace, address: SocketAddr, server: SocketAddr) -> Result<Self> {
        let listener = namespace.run(|| TcpListener::bind(address))?;
        let listener = listener.with_context(|| format!("{}: {address}", namespace.name()))?;
        let ends = Arc::new(AtomicBool::new(false));
        let forwarder = Self { namespace: namespace.clone(), address, ends: Arc::clone(&ends) };
        let from = namespace.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(io::Result::ok) {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                // Who is not connected is told by the end of the connection.
                if let Ok(Ok(far)) = from.run(|| TcpStream::connect(server)) {
                    let _ = forward(&near, &far);
                }
            }
        });
        Ok(forwarder)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // So that the thread looks.
        let _ = self.namespace.run(|| TcpStream::connect(self.address));
    }
}

/// Passes on what either end says until one has nothing more to say.
fn forward(near: &TcpStream, far: &TcpStream) -> io::Result<()> {
    for (from, to) in [(near, far), (far, near)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        std::thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
    }
    Ok(())
}
