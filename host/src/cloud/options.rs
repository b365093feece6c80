//! What the operator has said about clouds: endpoints on the command line, and the variables and files that the clouds' own tools
//! know.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::request::Provider;
use super::secret::Secret;
use crate::http::Url;

/// Where environment variables come from: the process's, or a test's.
#[derive(Clone)]
pub struct Variables(Arc<dyn Fn(&str) -> Option<String> + Send + Sync>);

impl Variables {
    /// The process's own.
    pub fn of_this_process() -> Self {
        Self(Arc::new(|name| std::env::var(name).ok()))
    }

    /// These and no others.
    pub fn of(all: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let all: BTreeMap<&str, String> = all.into_iter().collect();
        Self(Arc::new(move |name| all.get(name).cloned()))
    }

    /// A variable that is set, and not to nothing.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|text| !text.is_empty())
    }
}

/// All of it.
#[derive(Clone)]
pub struct CloudOptions {
    /// Environment variables.
    pub variables: Variables,
    /// `--cloud-endpoint`: by provider and service.
    pub endpoints: BTreeMap<(Provider, String), Url>,
    /// Certificate authorities, PEM.
    pub authorities: Option<PathBuf>,
    /// Key id and secret from the network config (`AccessKeyID`, `AccessKeySecret`).
    pub access_key: Option<(String, Secret)>,
}

impl CloudOptions {
    /// Of this process and this node, with what the command line says.
    pub fn of_this_node(endpoints: BTreeMap<(Provider, String), Url>) -> Self {
        let variables = Variables::of_this_process();
        let authorities =
            variables.get("AWS_CA_BUNDLE").map(Into::into).or_else(crate::node::authorities::file);
        Self { variables, endpoints, authorities, access_key: None }
    }

    /// Where a service is by the command line, else by a variable of the cloud's own tools. The error names the variable.
    pub fn endpoint(
        &self,
        provider: Provider,
        service: &str,
        variables: &[&str],
    ) -> Result<Option<Url>, EndpointError> {
        if let Some(url) = self.endpoints.get(&(provider, service.to_owned())) {
            return Ok(Some(url.clone()));
        }
        let said = variables.iter().find_map(|name| Some((*name, self.variables.get(name)?)));
        let Some((name, text)) = said else { return Ok(None) };
        let parsed = Url::parse(&text);
        parsed.map(Some).ok_or_else(|| EndpointError { place: name.to_owned(), text })
    }
}

/// An endpoint that is none.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{place}: {text:?} is no endpoint: http://HOST[:PORT] or https://HOST[:PORT]")]
pub struct EndpointError {
    /// The flag or variable.
    pub place: String,
    /// What it says.
    pub text: String,
}
