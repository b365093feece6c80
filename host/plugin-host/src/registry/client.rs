//! The part of the OCI distribution specification that plugins need: manifests and blobs of one repository, down and up.

use std::path::Path;
use std::time::Duration;

use flannel_cloud::http::{Answer, Http, Url};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, StatusCode};

use super::auth::{self, Challenge};
use super::credentials::Credentials;
use super::error::RegistryError;
use super::manifest::{Layer, MANIFEST};
use super::place;
use crate::digest::Digest;
use crate::reference::{RegistryReference, Version};

/// Bytes of the largest manifest that registries have to take.
const LARGEST_MANIFEST: usize = 4 << 20;
const LARGEST_TOKEN: usize = 64 << 10;
/// So many times a question may be passed on, or be asked again with credentials.
const HOPS: usize = 6;
const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
const JSON: HeaderValue = HeaderValue::from_static(MANIFEST);

/// One repository of a registry.
pub(super) struct Client<'a> {
    http: &'a Http,
    reference: &'a RegistryReference,
    credentials: Option<Credentials>,
    /// Where credentials would be.
    docker_config: Option<&'a Path>,
    /// `pull`, or `pull,push`.
    actions: &'static str,
    /// What has opened the door.
    authorization: Option<HeaderValue>,
}

/// A question to the registry.
struct Question {
    method: Method,
    url: Url,
    header: (HeaderName, HeaderValue),
    body: Bytes,
    patience: Duration,
}

impl<'a> Client<'a> {
    /// Nothing is asked yet.
    pub(super) fn new(
        http: &'a Http,
        reference: &'a RegistryReference,
        docker_config: Option<&'a Path>,
        actions: &'static str,
    ) -> Result<Self, RegistryError> {
        let credentials = match docker_config {
            Some(file) => super::credentials::read(file, &reference.registry())?,
            None => None,
        };
        Ok(Self { http, reference, credentials, docker_config, actions, authorization: None })
    }

    /// A manifest with its digest, which is the one that was asked for.
    pub(super) async fn manifest(&mut self, version: &Version) -> Result<(Digest, Vec<u8>), RegistryError> {
        let name = match version {
            Version::Tag(tag) => tag.clone(),
            Version::Digest { digest, .. } => digest.to_string(),
        };
        let answer = self.get(&format!("manifests/{name}"), JSON).await?;
        let announced = answer.response.headers().get("docker-content-digest").cloned();
        let bytes = answer.body("manifest", LARGEST_MANIFEST).await?;
        let found = Digest::of(&bytes);
        let wanted = match version {
            Version::Digest { digest, .. } => Some(*digest),
            // There are other algorithms; what cannot be compared says nothing.
            Version::Tag(_) => announced.and_then(|header| header.to_str().ok()?.parse().ok()),
        };
        checked("manifest", wanted.unwrap_or(found), found)?;
        Ok((found, bytes))
    }

    /// A component, which is the one that the manifest names.
    pub(super) async fn blob(&mut self, layer: &Layer) -> Result<Vec<u8>, RegistryError> {
        let answer = self.get(&format!("blobs/{}", layer.digest), ANYTHING).await?;
        let bytes = answer.body("component", layer.size).await?;
        if bytes.len() < layer.size {
            return Err(RegistryError::TooSmall { wanted: layer.size, found: bytes.len() });
        }
        let (bytes, found) = super::run_blocking(move || {
            let found = Digest::of(&bytes);
            (bytes, found)
        })
        .await;
        checked("component", layer.digest, found)?;
        Ok(bytes)
    }

    /// Uploads a blob in one piece.
    pub(super) async fn put_blob(&mut self, bytes: Vec<u8>) -> Result<(), RegistryError> {
        let digest = Digest::of(&bytes);
        let start = self.question(Method::POST, "blobs/uploads/", (CONTENT_TYPE, BINARY), Bytes::new());
        let answer = self.ask(start, StatusCode::ACCEPTED).await?;
        let place = location(&answer).and_then(|place| answer.url.follow(place));
        let place = place.ok_or_else(|| RegistryError::Protocol {
            url: answer.url.shown(),
            what: "the registry does not say where to upload to, or says a place that is not safe".to_owned(),
        })?;
        let url = place.with("digest", &flannel_cloud::percent(&digest.to_string()));
        let patience = self.http.times().whole;
        let header = (CONTENT_TYPE, BINARY);
        let upload = Question { method: Method::PUT, url, header, body: bytes.into(), patience };
        self.ask(upload, StatusCode::CREATED).await.map(drop)
    }

    /// Uploads a manifest under a tag.
    pub(super) async fn put_manifest(&mut self, tag: &str, bytes: Vec<u8>) -> Result<(), RegistryError> {
        let path = format!("manifests/{tag}");
        let upload = self.question(Method::PUT, &path, (CONTENT_TYPE, JSON), bytes.into());
        self.ask(upload, StatusCode::CREATED).await.map(drop)
    }

    /// Asks for something below the repository.
    pub(super) async fn get(&mut self, path: &str, accept: HeaderValue) -> Result<Answer, RegistryError> {
        let question = self.question(Method::GET, path, (ACCEPT, accept), Bytes::new());
        self.ask(question, StatusCode::OK).await
    }

    fn question(
        &self,
        method: Method,
        path: &str,
        header: (HeaderName, HeaderValue),
        body: Bytes,
    ) -> Question {
        let url = place::url(self.reference, format!("/v2/{}/{path}", self.reference.repository));
        Question { method, url, header, body, patience: self.http.times().answer }
    }

    /// Asks, presents credentials if they are demanded, and follows where the registry points. The answer has the status.
    async fn ask(&mut self, mut question: Question, wanted: StatusCode) -> Result<Answer, RegistryError> {
        let registry = place::url(self.reference, "/".to_owned());
        for _ in 0..HOPS {
            let mut request = Request::new(Full::new(question.body.clone()));
            *request.method_mut() = question.method.clone();
            let (name, value) = question.header.clone();
            request.headers_mut().insert(name, value);
            // Whom the registry points to gets a URL that opens the door by itself, and not our credentials.
            let ours = question.url.same_origin(&registry);
            if let (true, Some(authorization)) = (ours, &self.authorization) {
                request.headers_mut().insert(AUTHORIZATION, authorization.clone());
            }
            let answer = self.http.send(&question.url, request, question.patience).await?;
            let status = answer.response.status();
            if status == wanted {
                return Ok(answer);
            }
            if status == StatusCode::UNAUTHORIZED && ours && self.authorization.is_none() {
                self.authorization = Some(self.authorize(&answer).await?);
            } else if status == StatusCode::UNAUTHORIZED && ours {
                return Err(self.unwanted(answer.url.shown()));
            } else if status.is_redirection() && question.method == Method::GET {
                let next = location(&answer).and_then(|place| answer.url.follow(place));
                question.url = next.ok_or_else(|| RegistryError::Protocol {
                    url: answer.url.shown(),
                    what: "the registry points to nowhere, or to where there is no HTTPS".to_owned(),
                })?;
            } else {
                return Err(RegistryError::Status { url: answer.url.shown(), status });
            }
        }
        let what = "the registry leads round in circles".to_owned();
        Err(RegistryError::Protocol { url: question.url.shown(), what })
    }

    /// What to present to the registry, as its answer with status 401 demands.
    async fn authorize(&self, answer: &Answer) -> Result<HeaderValue, RegistryError> {
        let headers = answer.response.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenges: Vec<Challenge> =
            headers.filter_map(|header| Challenge::parse(header.to_str().ok()?)).collect();
        // A token is worth less to whoever steals it.
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service } => Some((realm, service)),
            Challenge::Basic => None,
        });
        if let Some((realm, service)) = bearer {
            return self.token(answer, realm, service.as_deref()).await;
        }
        let url = answer.url.shown();
        if challenges.is_empty() {
            let what = "the registry demands credentials in a way that is not known here".to_owned();
            return Err(RegistryError::Protocol { url, what });
        }
        self.credentials.as_ref().map(Credentials::header).ok_or_else(|| self.unwanted(url))
    }

    async fn token(
        &self,
        answer: &Answer,
        realm: &str,
        service: Option<&str>,
    ) -> Result<HeaderValue, RegistryError> {
        let protocol =
            |url: &Url, what: &str| RegistryError::Protocol { url: url.shown(), what: what.to_owned() };
        let unsafe_realm = || {
            protocol(&answer.url, "the registry's tokens are not to be had by HTTPS, and so not asked for")
        };
        let mut url = answer.url.follow(realm).ok_or_else(unsafe_realm)?;
        if let Some(service) = service {
            url = url.with("service", &flannel_cloud::percent(service));
        }
        let scope = format!("repository:{}:{}", self.reference.repository, self.actions);
        url = url.with("scope", &flannel_cloud::percent(&scope));
        let mut request = Request::new(Full::new(Bytes::new()));
        if let Some(credentials) = &self.credentials {
            request.headers_mut().insert(AUTHORIZATION, credentials.header());
        }
        let answer = self.http.send(&url, request, self.http.times().answer).await?;
        match answer.response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.unwanted(url.shown())),
            status => return Err(RegistryError::Status { url: url.shown(), status }),
        }
        let reply = answer.body("token", LARGEST_TOKEN).await?;
        auth::token(&reply).ok_or_else(|| protocol(&url, "the answer has no token"))
    }

    /// The registry does not let us in as we are.
    fn unwanted(&self, url: String) -> RegistryError {
        if let Some(credentials) = &self.credentials {
            return RegistryError::CredentialsRefused { url, file: credentials.file.clone() };
        }
        let registry = self.reference.registry();
        let place = match self.docker_config {
            Some(file) => format!("{} has none for {registry} (auths, auth)", file.display()),
            None => "there is no home directory with a .docker/config.json".to_owned(),
        };
        RegistryError::NoCredentials { url, place }
    }
}

fn location(answer: &Answer) -> Option<&str> {
    answer.response.headers().get(LOCATION)?.to_str().ok()
}

fn checked(what: &'static str, wanted: Digest, found: Digest) -> Result<(), RegistryError> {
    if wanted == found { Ok(()) } else { Err(RegistryError::WrongDigest { what, wanted, found }) }
}
