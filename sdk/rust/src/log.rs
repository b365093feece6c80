//! Structured log, at the operator's level and with the plugin's name.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something is lost.
    Error,
    /// Something is not as it should be.
    Warn,
    /// Something that an operator may want to know.
    Info,
    /// For whoever looks for the cause of something.
    Debug,
    /// Everything.
    Trace,
}

/// Writes one line, with fields of names and values.
pub fn write(level: Level, message: &str, fields: &[(&str, &str)]) {
    #[cfg(target_family = "wasm")]
    {
        use crate::bindings::flannel::backend::log as wit;
        let level = match level {
            Level::Error => wit::Level::Error,
            Level::Warn => wit::Level::Warn,
            Level::Info => wit::Level::Info,
            Level::Debug => wit::Level::Debug,
            Level::Trace => wit::Level::Trace,
        };
        let fields: Vec<(String, String)> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        wit::write(level, message, &fields);
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| {
        let mut line = message.to_owned();
        for (name, value) in fields {
            line.extend([" ", name, "=", value]);
        }
        host.log.push((level, line));
    });
}

/// Writes a line at [`Level::Error`].
pub fn error(message: &str, fields: &[(&str, &str)]) {
    write(Level::Error, message, fields);
}

/// Writes a line at [`Level::Warn`].
pub fn warn(message: &str, fields: &[(&str, &str)]) {
    write(Level::Warn, message, fields);
}

/// Writes a line at [`Level::Info`].
pub fn info(message: &str, fields: &[(&str, &str)]) {
    write(Level::Info, message, fields);
}

/// Writes a line at [`Level::Debug`].
pub fn debug(message: &str, fields: &[(&str, &str)]) {
    write(Level::Debug, message, fields);
}

/// Logs a panic's message and place before it becomes a trap, which has neither.
#[cfg(target_family = "wasm")]
pub(crate) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| error(&panic.to_string(), &[])));
}
