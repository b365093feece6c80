//! `log`: the plugin's lines among ours, with its name.

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
        self.call.log_lines = self.call.log_lines.saturating_add(1);
        if self.call.log_lines > self.limits.log_lines {
            return Ok(());
        }
        let mut line = message;
        for (name, value) in fields {
            line.extend([" ", &name, "=", &value]);
        }
        let line = convert::shown(&line, self.limits.text);
        let (plugin, function) = (self.plugin.as_str(), self.call.function.name());
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
