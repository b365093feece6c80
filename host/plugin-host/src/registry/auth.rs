//! How a registry wants to know who we are: HTTP's basic authentication, or a token that another server hands out.
//!
//! Facts: RFC 9110, section 11; the "Token Authentication Specification" of the distribution project.

use hyper::header::HeaderValue;
use serde::Deserialize;

/// What an answer with status 401 demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token with each request, which is got at the realm.
    Bearer {
        /// Where.
        realm: String,
        /// What the token is for, in the realm's words.
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, parameters) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        let mut rest = parameters;
        while let Some((name, value, behind)) = parameter(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                _ => {}
            }
            rest = behind;
        }
        Some(Self::Bearer { realm: realm?, service })
    }
}

/// The first `name=value` or `name="value"`, and what is behind it.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.trim_start_matches([',', ' ', '\t']).split_once('=')?;
    let rest = rest.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find(',').unwrap_or(rest.len());
        return Some((name.trim(), rest[..end].trim().to_owned(), &rest[end..]));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((name.trim(), value, &quoted[at + 1..])),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            other => value.push(other),
        }
    }
    None
}

#[derive(Deserialize)]
struct Reply {
    token: Option<String>,
    access_token: Option<String>,
}

/// The header that presents the token in a realm's reply.
pub(super) fn token(reply: &[u8]) -> Option<HeaderValue> {
    let reply: Reply = serde_json::from_slice(reply).ok()?;
    let token = reply.token.or(reply.access_token).filter(|token| !token.is_empty())?;
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(ToOwned::to_owned) })
        };
        for (header, challenge) in [
            (r#"Basic realm="Registry Realm""#, Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#,
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (r#"bearer service=a, realm = "https://r/\"t""#, bearer("https://r/\"t", Some("a"))),
            (r#"Bearer realm="https://r/t"#, None),
            ("Bearer service=a", None),
            ("Negotiate", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(header), challenge, "{header}");
        }
    }

    #[test]
    fn tokens_have_two_names() {
        for reply in [r#"{"token":"t","expires_in":300}"#, r#"{"access_token":"t"}"#] {
            assert_eq!(token(reply.as_bytes()).expect("a token"), "Bearer t");
        }
        for reply in ["{}", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, "t"] {
            assert!(token(reply.as_bytes()).is_none(), "{reply}");
        }
    }
}
