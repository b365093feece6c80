//! URLs of API servers.

use flannel_base::text::without_credentials;
use hyper::Uri;

use super::ConnectionError;

/// Reads `[SCHEME://]HOST[:PORT][/PATH]`. Without a scheme it is TLS where there is something to check a server by, as in Go's client.
pub(super) fn parse(text: &str, origin: &str, has_tls: bool) -> Result<Uri, ConnectionError> {
    let wrong = || ConnectionError::Url { origin: origin.to_owned(), url: without_credentials(text) };
    let scheme = if has_tls { "https" } else { "http" };
    let full = if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}") };
    let uri: Uri = full.parse().map_err(|_| wrong())?;
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    let has_credentials = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if is_known && has_host && !has_credentials && uri.query().is_none() { Ok(uri) } else { Err(wrong()) }
}

/// Whether requests to it are encrypted.
pub(super) fn is_secure(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}
