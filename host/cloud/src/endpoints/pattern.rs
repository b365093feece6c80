//! What may be asked of an endpoint: a method and a path, with `*` for one segment.

use std::fmt;

use flannel_base::text::excerpt;

use super::request::is_segment;
use crate::Method;

/// One entry of `allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    method: Method,
    /// Below the endpoint's URL, beginning with `/`.
    path: String,
}

impl Pattern {
    /// Reads `METHOD /PATH`. The error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let shown = excerpt(text);
        let wrong = |reason: &str| format!("{shown:?}: {reason}");
        let form = || wrong("right would be a method and a path, such as \"GET /networks/*\"");
        let (method, path) = text.split_once(' ').ok_or_else(form)?;
        let found = Method::ALL.into_iter().find(|known| known.name() == method);
        let method = found.ok_or_else(|| {
            wrong(&format!("the method is none of {}", Method::ALL.map(Method::name).join(", ")))
        })?;
        let rest = path.strip_prefix('/').ok_or_else(form)?;
        let mut segments: Vec<&str> = rest.split('/').collect();
        if segments.len() > 1 || rest.is_empty() {
            // A slash at the end makes it another path.
            segments.pop_if(|last| last.is_empty());
        }
        if let Some(segment) = segments.iter().find(|segment| **segment != "*" && !is_literal(segment)) {
            let reason = if segment.contains('*') {
                "`*` stands for a whole segment of the path, and for no part of one"
            } else {
                "segments of the path are of A-Z, a-z, 0-9 and -_.~:@+,=, none is empty, and none is `.` or `..`"
            };
            return Err(wrong(reason));
        }
        Ok(Self { method, path: path.to_owned() })
    }

    /// Whether it allows a request. The path's segments are well formed already.
    pub(super) fn allows(&self, method: Method, path: &str) -> bool {
        let (mut own, mut its) = (self.path.split('/'), path.split('/'));
        self.method == method
            && own.clone().count() == its.clone().count()
            && own.all(|segment| {
                let its = its.next().unwrap_or_default();
                segment == its || (segment == "*" && !its.is_empty())
            })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method.name(), self.path)
    }
}

fn is_literal(segment: &str) -> bool {
    is_segment(segment) && !segment.contains('*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_allows_its_method_and_paths_of_as_many_segments() {
        for (pattern, allowed, others) in [
            (
                "GET /servers",
                &["/servers"][..],
                &["/servers/", "/servers/1", "/Servers", "/", "//servers"][..],
            ),
            (
                "GET /networks/*",
                &["/networks/1", "/networks/*", "/networks/a:b"],
                &["/networks", "/networks/", "/networks/1/", "/networks/1/actions"],
            ),
            (
                "GET /networks/*/actions/add_route",
                &["/networks/1/actions/add_route"],
                &["/networks//actions/add_route", "/networks/1/2/add_route", "/networks/1/actions/delete"],
            ),
            ("GET /routes/", &["/routes/"], &["/routes", "/routes/1"]),
            ("GET /", &["/"], &["", "/x"]),
        ] {
            let read = Pattern::parse(pattern).expect("a pattern");
            assert_eq!(read.to_string(), pattern);
            for path in allowed {
                assert!(read.allows(Method::Get, path), "{pattern} and {path}");
                assert!(!read.allows(Method::Delete, path), "{pattern} and {path}");
            }
            for path in others {
                assert!(!read.allows(Method::Get, path), "{pattern} and {path}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_told_what_would_be_right() {
        for (wrong, right) in [
            ("", "a method and a path"),
            ("GET", "a method and a path"),
            ("GET servers", "a method and a path"),
            ("get /servers", "none of GET, HEAD, POST, PUT, PATCH, DELETE"),
            ("* /servers", "none of GET"),
            ("GET /net*", "a whole segment"),
            ("GET /**", "a whole segment"),
            ("GET //servers", "none is empty"),
            ("GET /a/../b", "`..`"),
            ("GET /a%2fb", "segments of the path are of"),
            ("GET /a?b=c", "segments of the path are of"),
            ("GET /a b", "segments of the path are of"),
        ] {
            let error = Pattern::parse(wrong).expect_err("refused");
            assert!(error.contains(right), "{wrong:?}: {error}");
        }
    }
}
