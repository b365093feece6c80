//! Texts from elsewhere, made fit for a line of log or of a terminal.

use std::error::Error;

/// The beginning of a text from elsewhere, short enough for a line of log.
pub fn excerpt(text: &str) -> String {
    beginning(text, 80)
}

/// So many characters of a text at most, in one line.
pub fn beginning(text: &str, longest: usize) -> String {
    let shown = text.chars().take(longest).map(printable);
    let more = text.chars().nth(longest).map(|_| '…');
    shown.chain(more).collect()
}

/// A text in one line, with a space for whatever separates its words or is invisible.
pub fn one_line(text: &str) -> String {
    text.chars().map(printable).collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A character, or a space in place of one that is invisible, or that a terminal or a reader of text would follow: control characters,
/// line ends, marks that change the direction of text (Unicode TR 36, 2.4).
pub fn printable(character: char) -> char {
    let is_invisible = matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    if character.is_control() || is_invisible { ' ' } else { character }
}

/// A URL for people, or `HOST:PORT`: what is before the host may be a password, and is not in it. In a password `@` and `/` may stand as
/// they are; behind schemes other than `http` and `https` a later `@` belongs to the path, as in references to images.
pub fn without_credentials(url: &str) -> String {
    let (scheme, rest) = match url.find("://") {
        Some(at) => url.split_at(at + "://".len()),
        None => ("", url),
    };
    let is_web =
        scheme.to_ascii_lowercase().ends_with("http://") || scheme.to_ascii_lowercase().ends_with("https://");
    let searched =
        if is_web || scheme.is_empty() { rest } else { rest.split('/').next().unwrap_or_default() };
    match searched.rfind('@') {
        Some(at) => format!("{scheme}(hidden){}", &rest[at..]),
        None => url.to_owned(),
    }
}

/// An error with its causes, in one line; what a cause says that was said already is left out.
pub fn with_causes(error: &dyn Error) -> String {
    chain(&error.to_string(), error.source())
}

/// The same for a message of one's own in the place of the error's.
pub fn chain(message: &str, mut cause: Option<&(dyn Error + 'static)>) -> String {
    let mut text = one_line(message);
    while let Some(error) = cause {
        let part = one_line(&error.to_string());
        if !text.contains(&part) {
            text = if text.is_empty() { part } else { format!("{text}: {part}") };
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Caused {
        text: &'static str,
        source: Option<Box<Caused>>,
    }

    #[test]
    fn an_error_is_said_with_its_causes_and_nothing_twice() {
        let cause = |text, source: Option<Caused>| Caused { text, source: source.map(Box::new) };
        let last = cause("connection\nrefused", None);
        let error = cause("no answer", Some(cause("answer", Some(last))));
        assert_eq!(with_causes(&error), "no answer: connection refused");
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_a_password() {
        for (url, shown) in [
            ("http://h:2379", "http://h:2379"),
            ("http://user:pw@h:2379", "http://(hidden)@h:2379"),
            ("HTTPS://u:p@w/o?r#d@h:2379/x", "HTTPS://(hidden)@h:2379/x"),
            ("user:pw@h:2379", "(hidden)@h:2379"),
            ("aws:ec2=https://u:p@h", "aws:ec2=https://(hidden)@h"),
            ("oci://u:p@r/p:t@sha256:00", "oci://(hidden)@r/p:t@sha256:00"),
            ("oci://r/p:t@sha256:00", "oci://r/p:t@sha256:00"),
            ("", ""),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }

    #[test]
    fn nothing_that_a_terminal_would_follow_is_left() {
        assert_eq!(one_line("a\u{1b}[31mb\u{202e}c\u{2066}d\u{9b}e\u{200d}f"), "a [31mb c d e f");
        assert_eq!(excerpt("é\u{202e}ß\u{7f}"), "é ß ");
    }

    #[test]
    fn what_is_long_is_cut_and_what_is_no_letter_is_a_space() {
        assert_eq!(beginning("a\u{1b}[31mb", 4), "a [3…");
        assert_eq!(excerpt(&"x".repeat(81)), format!("{}…", "x".repeat(80)));
    }
}
