//! `STATUS`: whether an `ADD` would find what it needs. Runtimes that ask keep the node from pods until it does.

use crate::Streams;
use crate::config::Config;
use crate::delegate::Delegate;
use crate::environment::{Environment, PATH};
use crate::error::{CniError, codes};
use crate::node_subnet::NodeSubnet;
use crate::render;

/// Fails with what is missing.
pub(super) fn run(
    config: &Config,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> Result<(), CniError> {
    let subnet = NodeSubnet::read(&config.subnet_file)
        .map_err(|error| CniError::new(codes::NOT_AVAILABLE, error.to_string()))?;
    let rendered = render::delegate_config(config, &subnet).map_err(not_available)?;
    if environment.get(PATH).is_none() {
        // The specification allows to ask without, and then the delegate cannot be asked.
        return Ok(());
    }
    let delegate = Delegate::find(render::delegate_type(config)?, environment).map_err(not_available)?;
    let asked = delegate.run_newer("STATUS", config.version(), &rendered, environment, streams.stderr);
    asked.map_err(|error| match error.code {
        // What the specification has for this.
        codes::NOT_AVAILABLE | codes::LIMITED_CONNECTIVITY => error,
        _ => not_available(CniError::new(
            error.code,
            format!(
                "the plugin {}, to which flannel delegates, is not ready: {}",
                delegate.name(),
                error.in_full()
            ),
        )),
    })
}

fn not_available(error: CniError) -> CniError {
    CniError { code: codes::NOT_AVAILABLE, ..error }
}
