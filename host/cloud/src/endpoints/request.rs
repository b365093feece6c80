//! What is asked of an endpoint. Nothing in it may lead elsewhere than it seems to: paths have one way to be written, and headers
//! that address, frame or forward a request, or say who asks, are the host's.

use std::collections::BTreeSet;

use flannel_base::text::excerpt;
use hyper::header::{HeaderName, HeaderValue};

use super::credentials::Credentials;
use crate::{Failure, Method};

/// Bytes of the longest path.
const PATH: usize = 1024;
/// Parameters of the query, and bytes of their names and values.
const PARAMETERS: (usize, usize, usize) = (256, 256, 16 << 10);
/// Headers, and bytes of the longest value.
const HEADERS: (usize, usize) = (32, 4 << 10);
/// Bytes of the largest body.
const BODY: usize = 256 << 10;

/// Headers that are the host's: they address a request, frame it (RFC 9110, section 7.6.1), say who asks, or have the answer come in parts
/// or in a form in which nothing secret would be found.
const RESERVED: [&str; 22] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "if-range",
    "keep-alive",
    "max-forwards",
    "origin",
    "range",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-method-override",
];
/// What others begin with: in place of the connection's own word, servers believe these about sender, host, path and method.
const RESERVED_BEGIN: [&str; 6] =
    ["proxy-", "sec-", "x-forwarded", "x-http-method", "x-original-", "x-rewrite-"];

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRequest {
    /// The endpoint's name.
    pub endpoint: String,
    /// How.
    pub method: Method,
    /// Below the endpoint's URL, beginning with `/`. Its segments need no encoding.
    pub path: String,
    /// Not yet encoded.
    pub query: Vec<(String, String)>,
    /// Beside those that the host adds.
    pub headers: Vec<(String, String)>,
    /// Text.
    pub body: Option<String>,
    /// It may be sent again when it is not known whether it was carried out.
    pub idempotent: bool,
}

impl EndpointRequest {
    /// Whether it is well formed, and leaves to the endpoint's credentials what is theirs. The error says what is not.
    pub(super) fn check(&self, own: &Credentials) -> Result<Vec<(HeaderName, HeaderValue)>, Failure> {
        let invalid = |reason: String| Err(Failure::Invalid(reason));
        if !is_path(&self.path) {
            return invalid(format!(
                "the path {:?}: right would be / and segments of A-Z, a-z, 0-9 and -_.~:@*+,= with slashes between them, none of them empty \
                 or only dots, at most {PATH} bytes",
                excerpt(&self.path)
            ));
        }
        self.check_query()?;
        own.check_query(&self.query)?;
        let (most, _) = HEADERS;
        if self.headers.len() > most {
            return invalid(format!("{} headers; at most {most}", self.headers.len()));
        }
        if let Some(body) = &self.body {
            if body.len() > BODY {
                return invalid(format!("a body of {} bytes; at most {BODY}", body.len()));
            }
            if matches!(self.method, Method::Get | Method::Head) {
                return invalid(format!("{} has no body", self.method.name()));
            }
        }
        let mut seen = BTreeSet::new();
        let headers = self.headers.iter().map(|(name, value)| {
            let (name, value) = header(name, value, own)?;
            if !seen.insert(name.as_str().to_owned()) {
                return Err(Failure::Invalid(format!("the header {name} is there twice")));
            }
            Ok((name, value))
        });
        headers.collect()
    }

    fn check_query(&self) -> Result<(), Failure> {
        let (most, name_length, value_length) = PARAMETERS;
        if self.query.len() > most {
            return Err(Failure::Invalid(format!("{} parameters; at most {most}", self.query.len())));
        }
        for (name, value) in &self.query {
            let shown = excerpt(name);
            if name.is_empty() || name.len() > name_length || value.len() > value_length {
                let length = value.len();
                return Err(Failure::Invalid(format!(
                    "the parameter {shown:?} with {length} bytes: its name has 1 to {name_length} bytes, and its value at most {value_length}"
                )));
            }
            // Servers believe it instead of the method.
            if name.eq_ignore_ascii_case("_method") || name.to_ascii_lowercase().starts_with("x-http-method")
            {
                return Err(Failure::Invalid(format!(
                    "the parameter {shown:?} would be another method than the request's"
                )));
            }
        }
        Ok(())
    }
}

/// A name as it is compared: some servers take `_` for `-`.
pub(super) fn folded(name: &HeaderName) -> String {
    name.as_str().replace('_', "-")
}

/// Whether a header is the host's.
pub(super) fn is_reserved(name: &HeaderName) -> bool {
    let name = folded(name);
    RESERVED.contains(&&*name) || RESERVED_BEGIN.iter().any(|begin| name.starts_with(begin))
}

fn header(name: &str, value: &str, own: &Credentials) -> Result<(HeaderName, HeaderValue), Failure> {
    let shown = excerpt(name);
    let invalid = |reason: &str| Failure::Invalid(format!("the header {shown:?}: {reason}"));
    let read: HeaderName =
        name.parse().map_err(|_| invalid("this is no name of a header (RFC 9110, 5.1)"))?;
    if is_reserved(&read) || own.are_in(&read) {
        return Err(invalid("it is the host's to set"));
    }
    let (_, length) = HEADERS;
    let is_text = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if !is_text || value.len() > length || value.trim() != value {
        return Err(invalid(&format!(
            "its value is at most {length} visible characters of ASCII with blanks between them"
        )));
    }
    let value = value.parse().map_err(|_| invalid("its value is none"))?;
    Ok((read, value))
}

/// Whether a text can be a segment of a path: one that nobody decodes, and that leads nowhere else. Without `;` and what comes after it,
/// which some servers take away before they look at the path.
pub(super) fn is_segment(text: &str) -> bool {
    let proper = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~:@*+,=".contains(&byte);
    text.bytes().all(proper) && text.bytes().any(|byte| byte != b'.')
}

fn is_path(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/').filter(|_| path.len() <= PATH) else { return false };
    // A slash at the end makes it another path.
    let segments = rest.strip_suffix('/').unwrap_or(rest);
    rest.is_empty() || segments.split('/').all(is_segment)
}
