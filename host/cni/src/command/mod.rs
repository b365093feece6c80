//! What a runtime can ask for. Each command has a file, with the rules that hold for it.

mod add;
mod del;
mod gc;
mod status;

use serde_json::json;

use crate::Streams;
use crate::config::{Config, Object};
use crate::container_id::ContainerId;
use crate::environment::{COMMAND, CONTAINER_ID, Environment, NETNS, PATH};
use crate::error::{CniError, codes};
use crate::version;

/// A command of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    /// The one that the runtime wants.
    pub(crate) fn of(environment: &Environment) -> Result<Self, CniError> {
        Ok(match environment.text(COMMAND)? {
            "ADD" => Self::Add,
            "DEL" => Self::Del,
            "CHECK" => Self::Check,
            "GC" => Self::Gc,
            "STATUS" => Self::Status,
            "VERSION" => Self::Version,
            other => {
                let known = "ADD, DEL, CHECK, GC, STATUS and VERSION";
                return Err(CniError::new(
                    codes::ENVIRONMENT,
                    format!("{COMMAND} is {other:?}: this plugin knows {known}"),
                ));
            }
        })
    }

    /// Carries it out; answers what is printed. `spoken` becomes the version of the configuration.
    pub(crate) fn run(
        self,
        environment: &Environment,
        streams: &mut Streams<'_>,
        spoken: &mut Option<String>,
    ) -> Result<Vec<u8>, CniError> {
        if self == Self::Version {
            return Ok(versions(&streams.read()?));
        }
        self.check_variables(environment)?;
        let config = Config::parse(&streams.read()?, spoken)?;
        match self {
            Self::Add => add::run(&config, environment, streams),
            Self::Del => del::run(&config, environment, streams).map(|()| Vec::new()),
            // Always well, as with upstream's plugin: it has nothing of its own in a container.
            Self::Check => self.is_in(&config, version::has_check).map(|()| Vec::new()),
            Self::Gc => {
                self.is_in(&config, version::has_status)?;
                gc::run(&config, environment, streams).map(|()| Vec::new())
            }
            Self::Status => {
                self.is_in(&config, version::has_status)?;
                status::run(&config, environment, streams).map(|()| Vec::new())
            }
            Self::Version => Ok(Vec::new()),
        }
    }

    /// Refuses a request without the variables that the specification asks for (section 2).
    fn check_variables(self, environment: &Environment) -> Result<(), CniError> {
        if matches!(self, Self::Add | Self::Del | Self::Check) {
            container(environment)?;
            environment.ifname()?;
        }
        if matches!(self, Self::Add | Self::Check) {
            environment.text(NETNS)?;
        }
        if matches!(self, Self::Add | Self::Gc) {
            environment.text(PATH)?;
        }
        Ok(())
    }

    /// Refuses a command that the configuration's version does not have yet.
    fn is_in(self, config: &Config, has: fn(&str) -> bool) -> Result<(), CniError> {
        if has(config.version()) {
            return Ok(());
        }
        let name = format!("{self:?}").to_uppercase();
        let older = format!("the network's cniVersion is {}, which has no {name}", config.version());
        Err(CniError::new(codes::INCOMPATIBLE_VERSION, older))
    }
}

/// The container that a request is for.
fn container(environment: &Environment) -> Result<ContainerId, CniError> {
    ContainerId::parse(environment.text(CONTAINER_ID)?)
}

/// The answer to `VERSION`. Whoever asks in a version that is unknown, or says none, hears of ours all the same.
fn versions(request: &[u8]) -> Vec<u8> {
    let request: Object = serde_json::from_slice(request).unwrap_or_default();
    let asked =
        request.get("cniVersion").and_then(|version| version.as_str()).filter(|version| !version.is_empty());
    let answer =
        json!({"cniVersion": asked.unwrap_or(version::NEWEST), "supportedVersions": version::SUPPORTED});
    format!("{answer}\n").into_bytes()
}
