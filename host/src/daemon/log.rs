//! Log lines on standard error.

use tracing_subscriber::EnvFilter;

use crate::cli::{LogFormat, Options};

/// Starts logging; called once. The level has been checked by the command line.
pub fn start(options: &Options) {
    let filter = EnvFilter::try_new(options.log_directives()).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().init(),
    }
}
