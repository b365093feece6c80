//! Texts from elsewhere, made fit for a line of log or of a terminal.

use std::error::Error;

/// The beginning of a text from elsewhere, short enough for a line of log.
pub fn excerpt(text: &str) -> String {
    beginning(text, 80)
}

/// So many characters of a text at most, in one line.
pub fn beginning(text: &str, longest: usize) -> String {
    let shown = text.chars().take(longest).map(|c| if c.is_control() { ' ' } else { c });
    let more = text.chars().nth(longest).map(|_| '…');
    shown.chain(more).collect()
}

/// A text in one line, with a space for whatever separates its words.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
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
    fn what_is_long_is_cut_and_what_is_no_letter_is_a_space() {
        assert_eq!(beginning("a\u{1b}[31mb", 4), "a [3…");
        assert_eq!(excerpt(&"x".repeat(81)), format!("{}…", "x".repeat(80)));
    }
}
