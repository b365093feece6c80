//! `ADD`: gives a container an interface, by the delegate.

use crate::Streams;
use crate::config::Config;
use crate::delegate::Delegate;
use crate::environment::Environment;
use crate::error::{CniError, codes};
use crate::node_subnet::NodeSubnet;
use crate::render;
use crate::saved::SavedConfigs;

/// Answers what the delegate answers. If that fails, what was rendered stays: the runtime's `DEL`, which follows, undoes what was done.
pub(super) fn run(
    config: &Config,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> Result<Vec<u8>, CniError> {
    let subnet = NodeSubnet::read(&config.subnet_file)
        .map_err(|error| CniError::new(codes::TRY_AGAIN, error.to_string()))?;
    let rendered = render::delegate_config(config, &subnet)?;
    // Before anything is written: without a delegate nothing could be undone either.
    let delegate = Delegate::find(render::delegate_type(config)?, environment)?;
    let saved = SavedConfigs(&config.data_dir);
    saved.save(&super::container(environment)?, &rendered, environment.ifname()?)?;
    delegate.run("ADD", &rendered, environment, streams.stderr)
}
