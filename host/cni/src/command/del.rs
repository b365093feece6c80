//! `DEL`: has the delegate undo what it did, with the configuration that it had then.

use serde_json::Value;

use crate::Streams;
use crate::config::{Config, Object};
use crate::container_id::ContainerId;
use crate::delegate::Delegate;
use crate::environment::Environment;
use crate::error::CniError;
use crate::saved::{Saved, SavedConfigs};

/// Does what can be done, and can be asked for again. What is kept goes when the delegate has succeeded.
pub(super) fn run(
    config: &Config,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> Result<(), CniError> {
    let (saved, container) = (SavedConfigs(&config.data_dir), super::container(environment)?);
    match saved.read(&container)? {
        None => Ok(()),
        Some(Saved::Broken(reason)) => {
            streams.remark(format_args!(
                "{reason}: the interface of {} is left to the end of its namespace",
                container.as_str()
            ));
            // It would be as useless the next time. A file that cannot go is no reason to keep the container.
            if let Err(error) = saved.remove(&container) {
                streams.remark(error);
            }
            Ok(())
        }
        Some(Saved::Config(rendered, _)) => undo(saved, &container, &rendered, environment, streams),
    }
}

/// Has the delegate of a rendered configuration undo it, and forgets it.
pub(super) fn undo(
    saved: SavedConfigs<'_>,
    container: &ContainerId,
    rendered: &Object,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> Result<(), CniError> {
    let name = rendered.get("type").and_then(Value::as_str).unwrap_or_default();
    Delegate::find(name, environment)?.run("DEL", rendered, environment, streams.stderr)?;
    saved.remove(container)
}
