//! The client as it is now: another one when a file of credentials changes, and after the server has refused them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flannel_base::text::{beginning, excerpt, with_causes};
use flannel_privileges::with_privileges;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{AuthError, Body, ClientBuilder, ConfigExt, RustlsTlsError};
use kube::{Client, Config};
use rustls::pki_types::ServerName;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tower::BoxError;
use tower::util::MapErrLayer;

use super::files::Files;
use super::{ClusterAccess, ConnectionError, Found, Place, identity};

/// For exec plugins, which may ask somebody else.
const PATIENCE: Duration = Duration::from_secs(30);
/// To connect, and between two signs that a connection is still alive.
const CONNECT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A client that is made anew when it has to be.
pub(crate) struct Connection {
    access: ClusterAccess,
    current: Mutex<Option<Current>>,
    is_refused: AtomicBool,
}

struct Current {
    client: Client,
    place: Arc<Place>,
    files: Files,
}

impl Connection {
    /// Reads nothing yet.
    pub(crate) fn new(access: ClusterAccess) -> Self {
        Self { access, current: Mutex::new(None), is_refused: AtomicBool::new(false) }
    }

    /// The client for the next request.
    pub(crate) async fn client(&self) -> Result<(Client, Arc<Place>), ConnectionError> {
        let mut current = self.current.lock().await;
        let is_refused = self.is_refused.load(Ordering::Relaxed);
        if let Some(current) = current.as_ref().filter(|current| !is_refused && !current.files.have_changed())
        {
            return Ok((current.client.clone(), Arc::clone(&current.place)));
        }
        match (build(self.access.clone()).await, current.as_ref()) {
            (Ok(new), _) => {
                self.is_refused.store(false, Ordering::Relaxed);
                Ok((new.client.clone(), Arc::clone(&current.insert(new).place)))
            }
            // Whoever replaces several files may be in the middle of it.
            (Err(error), Some(before)) if !is_refused => {
                tracing::warn!(%error, "changed credentials are of no use: the former ones are used on");
                Ok((before.client.clone(), Arc::clone(&before.place)))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The server has refused the credentials: they are read again for the next request.
    pub(crate) fn refused(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }
}

async fn build(access: ClusterAccess) -> Result<Current, ConnectionError> {
    let file = access.kubeconfig_file.clone().unwrap_or_default();
    let origin = file.clone();
    // Reads files, and runs what a kubeconfig says.
    let made = tokio::task::spawn_blocking(move || {
        // Looked at before they are read: a change in the middle of it is not missed.
        let files = Files::look(access.find()?.files);
        client(access.find()?, files, &origin)
    });
    let reason = |reason: &str| ConnectionError::File { file: file.clone(), reason: reason.to_owned() };
    match timeout(PATIENCE, made).await {
        Err(_) => Err(reason("credentials do not come in time")),
        Ok(Err(_)) => Err(reason("reading credentials has failed")),
        Ok(Ok(made)) => made,
    }
}

fn client(found: Found, files: Files, kubeconfig: &Path) -> Result<Current, ConnectionError> {
    let Found { mut config, place, .. } = found;
    let agent = concat!("flanneld/", env!("CARGO_PKG_VERSION"));
    config.headers.push((USER_AGENT, HeaderValue::from_static(agent)));
    config.connect_timeout = Some(CONNECT);
    // Waiting is up to those who ask.
    config.default_retry = false;
    let command = config.auth_info.exec.as_ref().and_then(|exec| exec.command.clone()).unwrap_or_default();
    let file = kubeconfig.to_owned();
    let made = if config.auth_info.exec.is_some() {
        // A thread that talks to servers may start no programs; this one the operator has named.
        let runtime = Handle::current();
        with_privileges(move || {
            let _inside = runtime.enter();
            assemble(config)
        })
    } else {
        assemble(config)
    };
    let client = made.map_err(|error| match error {
        kube::Error::Auth(error) => ConnectionError::Exec { command, file, reason: exec_reason(&error) },
        kube::Error::InferKubeconfig(error) => super::kubeconfig::explain(&file, &error),
        error => ConnectionError::Client {
            origin: place.source.clone(),
            reason: beginning(&with_causes(&error), 200),
        },
    })?;
    Ok(Current { client, place, files })
}

/// As kube would, but without its repetitions and its log; those who need a proxy get kube's own, with its log.
fn assemble(config: Config) -> Result<Client, kube::Error> {
    if config.proxy_url.is_some() {
        return Ok(ClientBuilder::try_from(config)?.build());
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(KEEP_ALIVE));
    tcp.set_keepalive_interval(Some(KEEP_ALIVE));
    tcp.set_keepalive_retries(Some(2));
    let tls = connector(&config, tcp)?;
    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new()).build(tls);
    let bare = ClientBuilder::new(http, config.default_namespace.clone());
    let bare = bare.with_layer(&MapErrLayer::new(BoxError::from)).with_layer(&config.extra_headers_layer()?);
    Ok(match config.auth_layer()? {
        Some(auth) => bare.with_layer(&auth).with_layer(&config.base_uri_layer()).build(),
        None => bare.with_layer(&config.base_uri_layer()).build(),
    })
}

/// As kube makes it, but for the certificate that is shown.
fn connector(config: &Config, tcp: HttpConnector) -> Result<HttpsConnector<HttpConnector>, kube::Error> {
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(identity::tls(config)?).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = ServerName::try_from(name.clone())
            .map_err(|error| kube::Error::RustlsTls(RustlsTlsError::InvalidServerName(error)))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(builder.enable_http1().wrap_connector(tcp))
}

/// Without what the plugin has written to its output: that may be credentials.
fn exec_reason(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecStart(error) => format!("it cannot be started: {error}"),
        AuthError::AuthExecRun { out, .. } => {
            let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            format!("it ended with {}: {}", out.status, excerpt(&said))
        }
        AuthError::AuthExecParse(_) => "what it writes is no ExecCredential".to_owned(),
        AuthError::InvalidBearerToken(_) => "the token has characters that no token has".to_owned(),
        other => excerpt(&other.to_string()),
    }
}
