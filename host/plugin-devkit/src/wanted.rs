//! The network config's `Backend` object that a plugin is tried with: as much of it as an author names, and the rest is the plugin's own.

use std::sync::Arc;

use flannel_model::network_config::fields;
use flannel_plugin_host::{Artifact, Description, NodeInfo};
use serde_json::Value;

use super::subject::describe;

/// What an author names.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The network config's `Backend` object, with or without `Type`.
    pub backend: Option<String>,
    /// Its `Type`.
    pub backend_type: Option<String>,
    /// What is known of all nodes besides their addresses.
    pub about: Arc<NodeInfo>,
    /// Calls of the long run of `check`, 20,000 and more; none: 30,000, or up to 50,000 where it takes more to know.
    pub calls: Option<u32>,
}

impl Wanted {
    /// The backend type, if one is named. The error, for an operator, is what is wrong with the names.
    pub fn named_type(&self) -> Result<Option<String>, String> {
        let wanted = self.backend_type.as_ref().map(|name| name.to_ascii_lowercase());
        let Some(written) = self.written_type()? else { return Ok(wanted) };
        match wanted {
            Some(wanted) if wanted != written => {
                Err(format!("--type is {wanted}, and the Type in --backend {written}: one of them is right"))
            }
            _ => Ok(Some(written)),
        }
    }

    /// The object for a plugin: of the named type, or else of the first that the plugin is for. The error is for an operator.
    pub fn of(&self, artifact: &Artifact) -> Result<String, String> {
        let named = self.named_type()?;
        if let (Some(backend), Some(_)) = (&self.backend, self.written_type()?) {
            return Ok(backend.clone());
        }
        let described = describe(artifact)?;
        let chosen = match &named {
            Some(named) if described.backend_types.contains(named) => named,
            Some(named) => return Err(other_type(&described, named)),
            None => described
                .backend_types
                .first()
                .ok_or_else(|| format!("plugin {} names no backend type", described.name))?,
        };
        let chosen = Value::from(chosen.as_str());
        // What else there is stays as it was written.
        let rest = self.backend.as_deref().and_then(|text| text.trim_start().strip_prefix('{'));
        let rest = rest.filter(|rest| !rest.trim_start().starts_with('}'));
        Ok(rest
            .map_or_else(|| format!(r#"{{"Type":{chosen}}}"#), |rest| format!(r#"{{"Type":{chosen},{rest}"#)))
    }

    /// The type that stands in the object.
    fn written_type(&self) -> Result<Option<String>, String> {
        const RIGHT: &str = r#"right would be an object such as {"Type":"vxlan","MTU":1400}"#;
        let Some(backend) = &self.backend else { return Ok(None) };
        let fields = fields(backend).map_err(|error| format!("--backend: {error}; {RIGHT}"))?;
        let written = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("type"));
        let Some((_, value)) = written else { return Ok(None) };
        let text: String = serde_json::from_str(value.get())
            .map_err(|_| format!("--backend: its Type {} is no string; {RIGHT}", value.get()))?;
        Ok(Some(text.to_ascii_lowercase()))
    }
}

fn other_type(described: &Description, named: &str) -> String {
    let types = described.backend_types.join(", ");
    format!("plugin {} is for the backend type {types}, and not for {named}", described.name)
}
