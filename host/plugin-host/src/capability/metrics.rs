//! `metrics`: figures of the plugin's own. What is wrong with one dooms nothing.

use std::time::Instant;

use tracing::warn;

use super::HostState;
use crate::bindings::flannel::backend::metrics::{self as wit, Error};
use crate::series::RefusedFigure;

type Labels = Vec<(String, String)>;

impl wit::Host for HostState {
    fn set_gauge(&mut self, name: String, labels: Labels, value: f64) -> wasmtime::Result<Result<(), Error>> {
        self.enter("metrics.set-gauge")?;
        let outcome = self.series.set_gauge(&name, labels, value);
        Ok(self.figure_outcome("metrics.set-gauge", outcome))
    }

    fn remove_gauge(&mut self, name: String, labels: Labels) -> wasmtime::Result<Result<(), Error>> {
        self.enter("metrics.remove-gauge")?;
        let outcome = self.series.remove_gauge(&name, labels);
        Ok(self.figure_outcome("metrics.remove-gauge", outcome))
    }

    fn add(&mut self, name: String, labels: Labels, amount: u64) -> wasmtime::Result<Result<(), Error>> {
        self.enter("metrics.add")?;
        let outcome = self.series.add(&name, labels, amount);
        Ok(self.figure_outcome("metrics.add", outcome))
    }

    fn set_help(&mut self, name: String, text: String) -> wasmtime::Result<Result<(), Error>> {
        self.enter("metrics.set-help")?;
        let outcome = self.series.set_help(&name, &text);
        Ok(self.figure_outcome("metrics.set-help", outcome))
    }
}

impl HostState {
    /// A refusal is told once: who has got one figure wrong has it wrong all along.
    fn figure_outcome(&self, capability: &str, outcome: Result<(), RefusedFigure>) -> Result<(), Error> {
        outcome.map_err(|refused| {
            let (plugin, function) = (self.plugin.as_str(), self.call.function.name());
            let is_first = self.series.note_refusal(&refused);
            let (RefusedFigure::Invalid(text) | RefusedFigure::TooMany(text)) = &refused;
            if is_first && self.log_rate.admits(plugin, text.len(), Instant::now()) {
                warn!(plugin, function, "{capability}: {text}");
            }
            match refused {
                RefusedFigure::Invalid(text) => Error::InvalidArgument(text),
                RefusedFigure::TooMany(text) => Error::LimitExceeded(text),
            }
        })
    }
}
