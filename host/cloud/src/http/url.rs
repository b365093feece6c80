//! Where requests go.

use std::net::IpAddr;

use hyper::Uri;
use hyper::http::uri::Scheme;

/// An absolute URL that may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether TLS is spoken.
    pub secure: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub path: String,
}

impl Url {
    /// Reads `http://HOST[:PORT][/PATH]` or the same with `https`, without credentials in it.
    pub fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let secure = match uri.scheme()? {
            scheme if *scheme == Scheme::HTTPS => true,
            scheme if *scheme == Scheme::HTTP => false,
            _ => return None,
        };
        let host = uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
        if host.is_empty() || uri.authority()?.as_str().contains('@') {
            return None;
        }
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Some(Self { secure, host, port, path: uri.path_and_query()?.to_string() })
    }

    /// Where the answer to this URL points. Nothing but HTTPS comes of HTTPS, and of HTTP on loopback either that or HTTPS.
    pub fn follow(&self, location: &str) -> Option<Self> {
        if location.starts_with('/') && !location.starts_with("//") {
            let path = location.parse::<Uri>().ok()?.path_and_query()?.to_string();
            return Some(Self { path, ..self.clone() });
        }
        let there = Self::parse(location)?;
        let is_allowed = there.secure || (!self.secure && is_loopback(&there.host));
        is_allowed.then_some(there)
    }

    /// The same with one more parameter of the query, which needs no quoting.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        self.path = format!("{}{separator}{name}={value}", self.path);
        self
    }

    /// Whether both are served by the same.
    pub fn same_origin(&self, other: &Self) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    /// `HOST` or `HOST:PORT`, for the header.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// For messages: without the query, in which registries put keys.
    pub fn shown(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        let shown: String = path.chars().take(300).collect();
        format!("{}://{}{shown}", if self.secure { "https" } else { "http" }, self.authority())
    }
}

/// Whether an address is of this link alone (169.254.0.0/16, `fe80::/10`).
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Whether a host is this machine by its name.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    #[test]
    fn nothing_leads_from_https_to_http_or_from_loopback_to_http_elsewhere() {
        let (far, near) = (url("https://r.example.com/v2/"), url("http://127.0.0.1:5000/v2/"));
        let shown = |url: Option<Url>| url.map(|url| url.shown());
        assert_eq!(shown(far.follow("https://cdn/x?key=secret")).as_deref(), Some("https://cdn/x"));
        assert_eq!(shown(far.follow("/x?y")).as_deref(), Some("https://r.example.com/x"));
        assert_eq!(shown(near.follow("http://[::1]:1/x")).as_deref(), Some("http://[::1]:1/x"));
        assert!(near.follow("https://cdn/x").is_some());
        for wrong in
            ["http://127.0.0.1/x", "http://cdn/x", "ftp://cdn/x", "//cdn/x", "x", "", "https://u:p@cdn/x"]
        {
            assert_eq!(far.follow(wrong), None, "{wrong}");
        }
        assert_eq!(near.follow("http://cdn/x"), None);
    }

    #[test]
    fn credentials_stay_where_scheme_host_and_port_are_the_same() {
        let url = url("https://r.example.com/v2/");
        assert!(url.same_origin(&url.follow("/other").expect("a path")));
        for other in ["https://r.example.com:444/", "https://example.com/"] {
            assert!(!url.same_origin(&url.follow(other).expect("a URL")), "{other}");
        }
    }
}
