//! Log lines on standard error.

use tracing_subscriber::EnvFilter;

use super::options::LogFormat;

/// Starts logging; called once. `level` has been checked by the command line.
pub fn start(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_new(directives(level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// A level alone is for our own lines; what the libraries say below a warning has to be asked for by their names.
fn directives(level: &str) -> String {
    if level.contains([',', '=', '[']) { level.to_owned() } else { format!("warn,flanneld={level}") }
}
