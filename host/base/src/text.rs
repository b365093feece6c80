//! Texts from elsewhere, made fit for a line of log.

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
