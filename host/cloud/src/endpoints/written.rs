//! Credentials as the operator's file has them. All secrets are in files of their own.

use std::path::{Path, PathBuf};

use hyper::header::{AUTHORIZATION, COOKIE, HeaderName};
use serde::Deserialize;

use super::address::address;
use super::azure::{AzureIdentity, Identity};
use super::credentials::Credentials;
use super::oauth::OauthClient;
use super::request::is_reserved;
use super::sigv4::SigV4;
use super::written_keystone::WrittenKeystone;
use crate::access_token::Kept;
use crate::{aws, is_label};

const KINDS: &str = "bearer-file, basic, header, oauth-client, keystone, azure-identity or sigv4";

/// What else counts.
pub(super) struct Place<'a> {
    /// Where files are that are named without a directory.
    pub directory: &'a Path,
    /// Whether HTTP may be spoken without TLS.
    pub insecure: bool,
    /// Whom the endpoint is at.
    pub host: &'a str,
}

impl Place<'_> {
    pub(super) fn file(&self, path: PathBuf) -> PathBuf {
        self.directory.join(path)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct WrittenCredentials {
    bearer_file: Option<PathBuf>,
    basic: Option<WrittenBasic>,
    header: Option<WrittenHeader>,
    oauth_client: Option<WrittenOauth>,
    keystone: Option<WrittenKeystone>,
    azure_identity: Option<WrittenAzure>,
    sigv4: Option<WrittenSigV4>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenBasic {
    user: String,
    password_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenHeader {
    name: String,
    value_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenOauth {
    token_url: String,
    client_id: String,
    client_secret_file: PathBuf,
    scope: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenAzure {
    resource: String,
    client_id: Option<String>,
    object_id: Option<String>,
    mi_res_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenSigV4 {
    service: Option<String>,
    region: Option<String>,
    credentials_file: Option<PathBuf>,
    profile: Option<String>,
}

impl WrittenCredentials {
    /// The error says what is wrong, and what would be right.
    pub(super) fn read(self, place: &Place) -> Result<Credentials, String> {
        let Self { bearer_file, basic, header, oauth_client, keystone, azure_identity, sigv4 } = self;
        let mut read = Vec::new();
        read.extend(bearer_file.map(|path| Ok(Credentials::Bearer(place.file(path)))));
        read.extend(basic.map(|written| written.read(place).map_err(|reason| ("basic", reason))));
        read.extend(header.map(|written| written.read(place).map_err(|reason| ("header", reason))));
        read.extend(
            oauth_client.map(|written| written.read(place).map_err(|reason| ("oauth-client", reason))),
        );
        read.extend(keystone.map(|written| written.read(place).map_err(|reason| ("keystone", reason))));
        read.extend(
            azure_identity.map(|written| written.read().map_err(|reason| ("azure-identity", reason))),
        );
        read.extend(sigv4.map(|written| written.read(place).map_err(|reason| ("sigv4", reason))));
        match (read.pop(), read.is_empty()) {
            (Some(one), true) => one.map_err(|(kind, reason)| format!("{kind}: {reason}")),
            (Some(_), false) => Err(format!("there are several; right would be one of {KINDS}")),
            (None, _) => Err(format!("it is empty; right would be one of {KINDS}")),
        }
    }
}

impl WrittenBasic {
    fn read(self, place: &Place) -> Result<Credentials, String> {
        let Self { user, password_file } = self;
        if user.contains(':') || user.chars().any(char::is_control) {
            return Err(format!("user = {user:?}: a user's name has no colon in it (RFC 7617)"));
        }
        Ok(Credentials::Basic { user, password_file: place.file(password_file) })
    }
}

impl WrittenHeader {
    fn read(self, place: &Place) -> Result<Credentials, String> {
        let Self { name, value_file } = self;
        let read: HeaderName =
            name.parse().map_err(|_| format!("name = {name:?} is no name of a header (RFC 9110, 5.1)"))?;
        if is_reserved(&read) && read != AUTHORIZATION && read != COOKIE {
            return Err(format!("name = {name:?}: this header is not for credentials"));
        }
        Ok(Credentials::Header { name: read, value_file: place.file(value_file) })
    }
}

impl WrittenOauth {
    fn read(self, place: &Place) -> Result<Credentials, String> {
        let Self { token_url, client_id, client_secret_file, scope } = self;
        let token_url = address("token-url", &token_url, place.insecure)?;
        if client_id.is_empty() {
            return Err("client-id is empty".to_owned());
        }
        let client_secret_file = place.file(client_secret_file);
        let kept = Kept::default();
        Ok(Credentials::Oauth(OauthClient { token_url, client_id, client_secret_file, scope, kept }))
    }
}

impl WrittenAzure {
    fn read(self) -> Result<Credentials, String> {
        let Self { resource, client_id, object_id, mi_res_id } = self;
        let given = [("resource", Some(&resource)), ("client-id", client_id.as_ref())];
        let given =
            given.into_iter().chain([("object-id", object_id.as_ref()), ("mi-res-id", mi_res_id.as_ref())]);
        for (name, value) in given {
            if let Some(value) = value
                && (value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()))
            {
                let right = "right would be visible characters of ASCII without blanks";
                return Err(format!("{name} = {value:?}: {right}, such as https://management.azure.com/"));
            }
        }
        let identity =
            match (client_id, object_id, mi_res_id) {
                (None, None, None) => None,
                (Some(id), None, None) => Some(Identity::Client(id)),
                (None, Some(id), None) => Some(Identity::Object(id)),
                (None, None, Some(id)) => Some(Identity::Resource(id)),
                _ => return Err(
                    "there are several identities; right would be one of client-id, object-id or mi-res-id"
                        .to_owned(),
                ),
            };
        Ok(Credentials::Azure(AzureIdentity { resource, identity, kept: Kept::default() }))
    }
}

impl WrittenSigV4 {
    fn read(self, place: &Place) -> Result<Credentials, String> {
        let Self { service, region, credentials_file, profile } = self;
        for (name, value, example) in
            [("service", &service, "execute-api"), ("region", &region, "eu-central-1")]
        {
            if let Some(text) = value.as_ref().filter(|text| !is_label(text)) {
                return Err(format!("{name} = {text:?}: right would be one such as {example:?}"));
            }
        }
        let said = aws::place(place.host);
        let (its_service, its_region) = said.map(|said| (said.service, said.region)).unzip();
        let service = service.or(its_service).ok_or_else(|| {
            format!(
                "service is missing: {} does not say which it is; right would be service = \"execute-api\" or another name that \
                 signatures have",
                place.host
            )
        })?;
        let profile = match (credentials_file, profile) {
            (None, None) => None,
            (Some(file), profile) => {
                Some((place.file(file), profile.unwrap_or_else(|| "default".to_owned())))
            }
            (None, Some(profile)) => {
                return Err(format!(
                    "profile = {profile:?} without credentials-file; right would be both, or neither: then keys are found as \
                     Amazon's own tools find them, with AWS_PROFILE"
                ));
            }
        };
        Ok(Credentials::SigV4(SigV4 { service, region: region.or(its_region), profile }))
    }
}
