//! `node-info`: which node this is.

use super::HostState;
use crate::bindings::flannel::backend::node_info as wit;

impl wit::Host for HostState {
    fn name(&mut self) -> wasmtime::Result<String> {
        self.enter("node-info.name")?;
        Ok(self.environment.about.name.clone())
    }

    fn labels(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        self.enter("node-info.labels")?;
        Ok(self.labels.clone())
    }

    fn options(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        self.enter("node-info.options")?;
        let options = &self.environment.about.options;
        Ok(options.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}
