//! What the operator has said about clouds: endpoints on the command line, and the variables and files that the clouds' own tools
//! know.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use flannel_base::text::without_credentials;

use super::request::Provider;
use crate::Secret;
use crate::http::Url;

/// Where environment variables come from: the process's, or a test's.
#[derive(Clone)]
pub struct Variables(Arc<Lookup>);

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

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
    pub fn of_this_node(endpoints: &[Endpoint], access_key: Option<(String, Secret)>) -> Self {
        let variables = Variables::of_this_process();
        let authorities =
            variables.get("AWS_CA_BUNDLE").map(Into::into).or_else(flannel_base::ca_bundle::file);
        let endpoints = endpoints.iter().map(|e| ((e.provider, e.service.clone()), e.url.clone())).collect();
        Self { variables, endpoints, authorities, access_key }
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
        parsed
            .map(Some)
            .ok_or_else(|| EndpointError { place: name.to_owned(), text: without_credentials(&text) })
    }
}

/// An endpoint that is none.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{place}: {text:?} is no endpoint: http://HOST[:PORT] or https://HOST[:PORT]")]
pub struct EndpointError {
    /// The flag or variable.
    pub place: String,
    /// What it says, without what may be a password.
    pub text: String,
}

/// An endpoint as `--cloud-endpoint` has it: `PROVIDER:SERVICE=URL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whose cloud.
    pub provider: Provider,
    /// The service.
    pub service: String,
    /// Where it is.
    pub url: Url,
}

impl std::str::FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            let shown = without_credentials(text);
            format!("{shown:?} is not PROVIDER:SERVICE=URL, such as aws:ec2=https://ec2.example.com")
        };
        let (name, url) = text.split_once('=').ok_or_else(form)?;
        let (provider, service) = name.split_once(':').ok_or_else(form)?;
        let url = Url::parse(url).ok_or_else(form)?;
        if service.is_empty() {
            return Err(form());
        }
        Ok(Self { provider: provider.parse()?, service: service.to_owned(), url })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_comes_before_the_clouds_own_variables() {
        let variables = Variables::of([("AWS_ENDPOINT_URL", "https://other.example.com/base".to_owned())]);
        let said: Endpoint = "aws:ec2=http://192.0.2.1:5000".parse().expect("an endpoint");
        let endpoints = [((said.provider, said.service), said.url)].into();
        let options = CloudOptions { variables, endpoints, authorities: None, access_key: None };
        let at = |service| {
            let url = options.endpoint(Provider::Aws, service, &["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"]);
            url.expect("read").map(|url| url.shown())
        };
        assert_eq!(at("ec2").as_deref(), Some("http://192.0.2.1:5000/"));
        assert_eq!(at("sts").as_deref(), Some("https://other.example.com/base"));
        let none = options.endpoint(Provider::Aws, "sts", &["AWS_ENDPOINT_URL_STS"]);
        assert_eq!(none, Ok(None));
    }

    #[test]
    fn what_is_no_endpoint_is_named_with_its_place() {
        for wrong in [
            "aws",
            "aws:ec2",
            "aws=http://x",
            "aws:ec2=x",
            "aws:=http://x",
            "azure:vm=http://x",
            "aws:ec2=ftp://x",
        ] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
        let variables = Variables::of([("AWS_ENDPOINT_URL", "localhost:5000".to_owned())]);
        let options =
            CloudOptions { variables, endpoints: BTreeMap::new(), authorities: None, access_key: None };
        let error = options.endpoint(Provider::Aws, "ec2", &["AWS_ENDPOINT_URL"]).expect_err("no URL");
        assert!(
            error.to_string().starts_with("AWS_ENDPOINT_URL: \"localhost:5000\" is no endpoint"),
            "{error}"
        );
    }
}
