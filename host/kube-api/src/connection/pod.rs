//! What Kubernetes gives each pod: the API server's address in variables, a token and the authorities in files.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::Uri;
use kube::Config;

use super::kubeconfig::{read_authorities, read_token};
use super::{ConnectionError, Found, Place, url};

const HOST: &str = "KUBERNETES_SERVICE_HOST";
const PORT: &str = "KUBERNETES_SERVICE_PORT";

/// What a pod has; nothing of it elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEnvironment {
    /// `KUBERNETES_SERVICE_HOST`: a name, or an address without brackets.
    pub host: Option<String>,
    /// `KUBERNETES_SERVICE_PORT`.
    pub port: Option<String>,
    /// Where `token` and `ca.crt` are.
    pub directory: PathBuf,
}

impl Default for PodEnvironment {
    /// No pod.
    fn default() -> Self {
        Self { host: None, port: None, directory: "/var/run/secrets/kubernetes.io/serviceaccount".into() }
    }
}

impl PodEnvironment {
    /// This process's.
    pub fn of_this_process() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self { host: variable(HOST), port: variable(PORT), ..Self::default() }
    }

    fn token(&self) -> PathBuf {
        self.directory.join("token")
    }

    fn authorities(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// Whether this is a pod with a service account.
    pub(super) fn is_complete(&self) -> bool {
        self.host.is_some() && self.port.is_some() && self.token().is_file()
    }

    /// The pod's cluster, or the one at the URL.
    pub(super) fn find(&self, given: Option<&str>) -> Result<Found, ConnectionError> {
        let has_token = self.token().is_file();
        let uri = match given {
            Some(given) => url::parse(given, "--kube-api-url", has_token)?,
            None => self.uri()?,
        };
        let address = uri.to_string();
        let is_secure = url::is_secure(&uri);
        let mut config = Config::new(uri);
        if given.is_some() && !(has_token && is_secure) {
            // A token does not go over a network in the clear, and elsewhere than in a pod there is none.
            let place = Arc::new(Place { address, source: "--kube-api-url".to_owned() });
            return Ok(Found { config, files: Vec::new(), place });
        }
        config.auth_info.token = Some(read_token(&self.token())?.into());
        config.root_cert = self.trusted()?;
        let place = Arc::new(Place { address, source: "the pod's service account".to_owned() });
        Ok(Found { config, files: vec![self.token(), self.authorities()], place })
    }

    fn uri(&self) -> Result<Uri, ConnectionError> {
        let host = self.host.as_deref().ok_or(ConnectionError::NoConfiguration { variable: HOST })?;
        let port = self.port.as_deref().ok_or(ConnectionError::NoConfiguration { variable: PORT })?;
        let wrong = |variable: &'static str, value: &str, right: &'static str| ConnectionError::Variable {
            variable,
            value: value.to_owned(),
            right,
        };
        let number: u16 = port.parse().map_err(|_| wrong(PORT, port, "a number like 443"))?;
        let host_in_url = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => host.to_owned(),
        };
        let right = "a name or an address like 10.96.0.1";
        url::parse(&format!("https://{host_in_url}:{number}"), HOST, true)
            .map_err(|_| wrong(HOST, host, right))
    }

    /// The pod's authorities, or the system's if the pod has none, as Go's client does.
    fn trusted(&self) -> Result<Option<Vec<Vec<u8>>>, ConnectionError> {
        let file = self.authorities();
        if Path::new(&file).exists() {
            return read_authorities(&file).map(Some);
        }
        tracing::warn!(file = %file.display(), "the pod has no authorities of its cluster: the system's are used");
        Ok(None)
    }
}
