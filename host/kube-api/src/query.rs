//! Paths with queries: whatever is in a name stays one segment or one value.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but RFC 3986's unreserved characters.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A path, and the parameters so far.
pub(crate) struct Query {
    text: String,
    has_parameters: bool,
}

impl Query {
    pub(crate) fn new(segments: &[&str]) -> Self {
        let text = segments.iter().fold(String::new(), |text, segment| {
            // These two would be taken for the folder itself and the one above.
            let quoted = match *segment {
                "." => "%2E".to_owned(),
                ".." => "%2E%2E".to_owned(),
                segment => utf8_percent_encode(segment, QUOTED).to_string(),
            };
            text + "/" + &quoted
        });
        Self { text, has_parameters: false }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.text += if self.has_parameters { "&" } else { "?" };
        self.text += name;
        self.text += "=";
        self.text.extend(utf8_percent_encode(value, QUOTED));
        self.has_parameters = true;
        self
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_where_they_are() {
        let text = Query::new(&["nodes", "a/../b?c"]).with("x", "1&y=2").with("z", "").into_text();
        assert_eq!(text, "/nodes/a%2F..%2Fb%3Fc?x=1%26y%3D2&z=");
        assert_eq!(Query::new(&["nodes", ".."]).into_text(), "/nodes/%2E%2E");
    }
}
