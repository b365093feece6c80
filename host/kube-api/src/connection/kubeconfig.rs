//! A kubeconfig, and the files that it names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flannel_base::text::excerpt;
use hyper::Uri;
use kube::Config;
use kube::config::{AuthInfo, Cluster, KubeConfigOptions, Kubeconfig, KubeconfigError, LoadDataError};

use super::{ConnectionError, Found, Place, url};

/// Reads the file. `None` if it has no clusters at all.
pub(super) fn find(file: &Path, given: Option<&str>) -> Result<Option<Found>, ConnectionError> {
    let read = Kubeconfig::read_from(file).map_err(|error| explain(file, &error))?;
    if read.clusters.iter().all(|named| named.cluster.is_none()) {
        return Ok(None);
    }
    let mut files = vec![file.to_owned()];
    let wrong = |reason: String| ConnectionError::File { file: file.to_owned(), reason };
    let name = read.current_context.clone().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| wrong("it has no current-context".to_owned()))?;
    let context = read.contexts.iter().find(|named| named.name == name);
    let context = context.and_then(|named| named.context.as_ref());
    let context = context.ok_or_else(|| wrong(format!("it has no context {name:?}, its current-context")))?;
    let (cluster_name, user_name) = (context.cluster.clone(), context.user.clone());
    let mut read = read;
    let cluster = read.clusters.iter_mut().find(|named| named.name == cluster_name);
    let cluster = cluster.and_then(|named| named.cluster.as_mut());
    let cluster = cluster.ok_or_else(|| wrong(format!("it has no cluster {cluster_name:?}")))?;
    let server = server(cluster, file, given)?;
    cluster.server = Some(server.to_string());
    files.extend(
        cluster
            .certificate_authority
            .as_ref()
            .filter(|_| cluster.certificate_authority_data.is_none())
            .map(PathBuf::from),
    );
    let user = read.auth_infos.iter_mut().find(|named| Some(&named.name) == user_name.as_ref());
    if let Some(user) = user.and_then(|named| named.auth_info.as_mut()) {
        files.extend(user_files(user)?);
    }
    let options = KubeConfigOptions::default();
    // Has nothing to wait for, though it is asynchronous.
    let config = futures_ready(Config::from_custom_kubeconfig(read, &options));
    let config = config.ok_or_else(|| wrong("it cannot be read at once".to_owned()))?;
    let config = config.map_err(|error| explain(file, &error))?;
    let source = match given {
        Some(_) => format!("--kube-api-url and {}", file.display()),
        None => file.display().to_string(),
    };
    let place = Arc::new(Place { address: server.to_string(), source });
    Ok(Some(Found { config, files, place }))
}

/// The outcome of what does not wait.
fn futures_ready<F: Future>(future: F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(outcome) => Some(outcome),
        std::task::Poll::Pending => None,
    }
}

fn server(cluster: &Cluster, file: &Path, given: Option<&str>) -> Result<Uri, ConnectionError> {
    let has_tls = cluster.certificate_authority.is_some()
        || cluster.certificate_authority_data.is_some()
        || cluster.insecure_skip_tls_verify == Some(true);
    let said = cluster.server.as_deref().unwrap_or_default();
    match given {
        Some(given) => url::parse(given, "--kube-api-url", has_tls),
        None => url::parse(said, &format!("{}, server", file.display()), has_tls),
    }
}

/// The files with a user's credentials. The token is read here: what is read first wins, and a file of it wins over a token beside it, as
/// in Go's client.
fn user_files(user: &mut AuthInfo) -> Result<Vec<PathBuf>, ConnectionError> {
    let mut files = Vec::new();
    if let Some(file) = user.token_file.take().filter(|file| !file.is_empty()) {
        user.token = Some(read_token(Path::new(&file))?.into());
        files.push(PathBuf::from(file));
    }
    if user.client_certificate_data.is_none() {
        files.extend(user.client_certificate.as_ref().map(PathBuf::from));
    }
    if user.client_key_data.is_none() {
        files.extend(user.client_key.as_ref().map(PathBuf::from));
    }
    Ok(files)
}

/// Reads a token.
pub(super) fn read_token(file: &Path) -> Result<String, ConnectionError> {
    let wrong = |reason: String| ConnectionError::File { file: file.to_owned(), reason };
    let text =
        std::fs::read_to_string(file).map_err(|error| wrong(format!("the token cannot be read: {error}")))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(wrong("it should have a token, and is empty".to_owned()));
    }
    // Nothing else can stand in the header of a request.
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong(
            "it should have a token alone, and has other characters than those of one".to_owned(),
        ));
    }
    Ok(token.to_owned())
}

/// Reads certificates (PEM), in DER.
pub(super) fn read_authorities(file: &Path) -> Result<Vec<Vec<u8>>, ConnectionError> {
    let wrong = |reason: String| ConnectionError::File { file: file.to_owned(), reason };
    let text =
        std::fs::read(file).map_err(|error| wrong(format!("the authorities cannot be read: {error}")))?;
    let blocks = pem::parse_many(text).map_err(|error| wrong(format!("it is no PEM: {error}")))?;
    let is_certificate = |block: &pem::Pem| block.tag() == "CERTIFICATE";
    let found: Vec<Vec<u8>> =
        blocks.into_iter().filter(is_certificate).map(pem::Pem::into_contents).collect();
    if found.is_empty() { Err(wrong("it has no PEM block of a CERTIFICATE".to_owned())) } else { Ok(found) }
}

/// In our own words: kube's show lines of the file, and secrets may be in them.
pub(super) fn explain(file: &Path, error: &KubeconfigError) -> ConnectionError {
    let of = |file: &Path, reason: String| ConnectionError::File { file: file.to_owned(), reason };
    let data = |what: &str, error: &LoadDataError| match error {
        LoadDataError::ReadFile(error, named) => of(named, format!("the {what} cannot be read: {error}")),
        LoadDataError::DecodeBase64(_) => of(file, format!("the data of the {what} are not base64")),
        LoadDataError::NoBase64DataOrFile => {
            of(file, format!("there is no {what} beside the other half of it"))
        }
    };
    match error {
        KubeconfigError::ReadConfig(error, _) => of(file, format!("it cannot be read: {error}")),
        KubeconfigError::Parse(error) => {
            let place = error.location().map(|at| format!(" (line {}, column {})", at.line(), at.column()));
            of(file, format!("it is no kubeconfig{}", place.unwrap_or_default()))
        }
        KubeconfigError::LoadCertificateAuthority(error) => data("certificate authority", error),
        KubeconfigError::LoadClientCertificate(error) => data("client certificate", error),
        KubeconfigError::LoadClientKey(error) => data("client key", error),
        KubeconfigError::ParseCertificates(_) => of(file, "its certificate authority is no PEM".to_owned()),
        KubeconfigError::ParseProxyUrl(_) => {
            of(file, "the proxy (proxy-url, or HTTPS_PROXY) is no URL like http://proxy:3128".to_owned())
        }
        other => of(file, excerpt(&other.to_string())),
    }
}
