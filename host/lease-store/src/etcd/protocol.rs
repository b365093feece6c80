//! Whether a member speaks TLS or not, and whether it takes our certificate: asked where a connection breaks in a way that says neither, so
//! that the operator is told what to change only where that is what is wrong, and not while a member restarts.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{AlertDescription, Error};

/// How long connecting and the answer may take together.
const TIME: Duration = Duration::from_secs(1);
/// A ClientHello without content, which whoever speaks TLS answers with an alert (RFC 8446, 4.1.2, 5.1, 6.2).
const EMPTY_CLIENT_HELLO: [u8; 9] = [22, 3, 1, 0, 4, 1, 0, 0, 0];
/// What a client of HTTP/2 begins with, and a SETTINGS frame without content (RFC 9113, 3.4, 4.1, 6.5).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Whether TLS is spoken there: a record comes back, an alert or part of a handshake.
pub(super) async fn is_tls(place: &str) -> bool {
    matches!(asked(place, &EMPTY_CLIENT_HELLO).await, Some([21 | 22, 3, ..]))
}

/// Whether HTTP/2 is spoken there without TLS: a SETTINGS frame comes back.
pub(super) async fn is_plain(place: &str) -> bool {
    matches!(asked(place, PREFACE).await, Some([_, _, _, 4, 0]))
}

/// Whether the server takes a connection with TLS, but not the client's certificate, or that there is none: since TLS 1.3 it says so when
/// the client is done with its handshake, and HTTP/2 does not hand it on.
pub(super) async fn refuses_client(place: &str, host: &str, tls: &TlsConnector) -> bool {
    let Ok(name) = ServerName::try_from(host.to_owned()) else { return false };
    let exchange = async {
        let mut stream = tls.connect(name, TcpStream::connect(place).await?).await?;
        stream.read_u8().await
    };
    match timeout(TIME, exchange).await {
        Ok(Err(error)) => {
            let alert = error.get_ref().and_then(|cause| cause.downcast_ref());
            matches!(alert, Some(Error::AlertReceived(alert)) if is_of_certificate(*alert))
        }
        Ok(Ok(_)) | Err(_) => false,
    }
}

fn is_of_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate
    )
}

/// The first bytes of an answer.
async fn asked(place: &str, what: &[u8]) -> Option<[u8; 5]> {
    let exchange = async {
        let mut stream = TcpStream::connect(place).await?;
        stream.write_all(what).await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    timeout(TIME, exchange).await.ok()?.ok()
}
