//! `log`: the plugin's lines among ours, with its name.

use std::time::Instant;

use tracing::{debug, error, info, trace, warn};

use super::HostState;
use crate::bindings::flannel::backend::log::{self as wit, Level};
use crate::convert;

impl wit::Host for HostState {
    fn write(
        &mut self,
        level: Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        self.enter("log.write")?;
        if !is_wanted(level) {
            return Ok(());
        }
        self.call.log_lines = self.call.log_lines.saturating_add(1);
        if self.call.log_lines > self.limits.log_lines {
            self.log_rate.suppress();
            return Ok(());
        }
        let mut line = message;
        for (name, value) in fields {
            line.extend([" ", &name, "=", &value]);
        }
        let line = convert::shown(&line, self.limits.text);
        let (plugin, function) = (self.plugin.as_str(), self.call.function.name());
        if !self.log_rate.admits(plugin, line.len(), Instant::now()) {
            if matches!(level, Level::Error) {
                self.call.panic_message = Some(line);
            }
            return Ok(());
        }
        match level {
            Level::Error => {
                error!(plugin, function, "{line}");
                self.call.panic_message = Some(line);
            }
            Level::Warn => warn!(plugin, function, "{line}"),
            Level::Info => info!(plugin, function, "{line}"),
            Level::Debug => debug!(plugin, function, "{line}"),
            Level::Trace => trace!(plugin, function, "{line}"),
        }
        Ok(())
    }
}

/// Whether the operator wants to see lines of a level. Others cost nothing of what a plugin may write, but an error is kept in any case: it
/// says what a panic was about.
fn is_wanted(level: Level) -> bool {
    match level {
        Level::Error => true,
        Level::Warn => tracing::enabled!(tracing::Level::WARN),
        Level::Info => tracing::enabled!(tracing::Level::INFO),
        Level::Debug => tracing::enabled!(tracing::Level::DEBUG),
        Level::Trace => tracing::enabled!(tracing::Level::TRACE),
    }
}
