//! A UDP datagram from one namespace to another, and what the receiver takes for its sender.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Namespace, wait};

/// How long a datagram or its answer may take. Short: that none comes is a result as well.
const PATIENCE: Duration = Duration::from_secs(2);

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It came in, and its answer came back.
    Answered {
        /// Whom it seemed to come from.
        source: IpAddr,
    },
    /// It came in, and its answer was lost.
    Unanswered {
        /// Whom it seemed to come from.
        source: IpAddr,
    },
    /// It was lost, or could not be sent.
    Lost,
}

/// Sends one from a namespace to an address that another one has, from a port that was not used before.
pub fn send(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<Outcome> {
    let any = if address.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    exchange(&open(from, any)?, &open(to, address)?)
}

/// The same, with one of the sender's addresses as the source.
pub fn send_as(source: IpAddr, from: &Namespace, to: &Namespace, address: IpAddr) -> Result<Outcome> {
    exchange(&open(from, source)?, &open(to, address)?)
}

fn open(namespace: &Namespace, address: IpAddr) -> Result<UdpSocket> {
    let open = || -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind(SocketAddr::new(address, 0))?;
        socket.set_read_timeout(Some(wait::scaled(PATIENCE)))?;
        Ok(socket)
    };
    namespace.run(open)?.with_context(|| format!("a UDP socket with {address} in {}", namespace.name()))
}

fn exchange(client: &UdpSocket, server: &UdpSocket) -> Result<Outcome> {
    let mut buffer = [0; 16];
    if client.send_to(b"ask", server.local_addr()?).is_err() {
        return Ok(Outcome::Lost);
    }
    let Some((_, source)) = received(server.recv_from(&mut buffer))? else {
        return Ok(Outcome::Lost);
    };
    // No way back is no error here.
    let sent = server.send_to(b"answer", source).is_ok();
    let answered = sent && received(client.recv_from(&mut buffer))?.is_some();
    let source = source.ip();
    Ok(if answered { Outcome::Answered { source } } else { Outcome::Unanswered { source } })
}

/// None where nothing came, or the news that nothing will.
fn received<T>(outcome: io::Result<T>) -> Result<Option<T>> {
    match outcome {
        Ok(received) => Ok(Some(received)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
        Err(error) => Err(error).context("a UDP socket"),
    }
}
