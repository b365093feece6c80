//! What all targets have in common.

/// A message for the log or the operator: one line, and not longer than a person reads, however long the input was.
pub fn is_one_line(message: &str) {
    const LONGEST: usize = 1000;
    assert!(!message.contains(['\n', '\r']), "{message:?}");
    assert!(message.len() <= LONGEST, "{} bytes: {message:?}", message.len());
}
