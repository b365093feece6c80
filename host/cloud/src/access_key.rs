//! Access keys, and where Alibaba and Tencent have them from: the network config, the environment, or the instance's role.

use std::sync::{Mutex, MutexGuard, PoisonError};

use flannel_base::Timestamp;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::Secret;
use crate::http::Http;
use crate::imds::{Imds, is_name};
use crate::options::{CloudOptions, Variables};
use crate::request::Failure;

/// What differs from cloud to cloud.
pub(crate) struct KeyDialect {
    /// Pairs of variables, with that of a session's token: those of the vendor's own tools, and upstream's.
    pub variables: &'static [(&'static str, &'static str, Option<&'static str>)],
    /// The variable that names the instance's role.
    pub role_variable: Option<&'static str>,
    /// The variable that says not to ask the metadata service.
    pub metadata_disabled: Option<&'static str>,
    /// What the cloud calls a role of an instance.
    pub role: &'static str,
    /// Where roles are, below `meta-data/`, with a slash at the end.
    pub roles: &'static str,
    /// Seconds before their end from which on the role's keys are fetched anew.
    pub refresh_before_expiry: u64,
    /// Reads what the metadata service says of a role's session; none: it is not whole.
    pub read: fn(&str) -> Option<AccessKey>,
}

/// An access key, perhaps of a session.
#[derive(Clone, Debug)]
pub(crate) struct AccessKey {
    /// Not secret.
    pub id: String,
    /// Signs.
    pub secret: Secret,
    /// Of a session.
    pub token: Option<Secret>,
    /// A session's end.
    pub expires: Option<Timestamp>,
}

impl AccessKey {
    /// A session's, if all parts can be what they should be.
    pub(crate) fn of_session(id: String, secret: String, token: String, expires: Timestamp) -> Option<Self> {
        let (secret, token) = (Secret::new(secret), Secret::new(token));
        let is_whole = is_name(&id) && !secret.reveal().is_empty() && !token.reveal().is_empty();
        is_whole.then_some(Self { id, secret, token: Some(token), expires: Some(expires) })
    }
}

/// HMAC-SHA256 (RFC 2104), of which signatures are made.
pub(crate) fn hmac(key: &[u8], text: &[u8]) -> Result<[u8; 32], Failure> {
    let mac = Hmac::<Sha256>::new_from_slice(key);
    let mut mac = mac.map_err(|error| Failure::Invalid(format!("the access key's secret: {error}")))?;
    mac.update(text);
    Ok(mac.finalize().into_bytes().into())
}

/// Where keys come from.
pub(crate) struct Credentials {
    dialect: &'static KeyDialect,
    configured: Option<AccessKey>,
    variables: Variables,
    of_role: Mutex<Option<AccessKey>>,
}

impl Credentials {
    pub(crate) fn new(dialect: &'static KeyDialect, options: &CloudOptions) -> Self {
        let configured = options.access_key.clone();
        let configured = configured.map(|(id, secret)| AccessKey { id, secret, token: None, expires: None });
        Self { dialect, configured, variables: options.variables.clone(), of_role: Mutex::new(None) }
    }

    /// Keys that are good now.
    pub(crate) async fn keys(&self, http: &Http, metadata: &Imds) -> Result<AccessKey, Failure> {
        if let Some(keys) = &self.configured {
            return Ok(keys.clone());
        }
        if let Some(keys) = self.of_environment()? {
            return Ok(keys);
        }
        let disabled = self
            .dialect
            .metadata_disabled
            .filter(|name| self.variables.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true")));
        if let Some(name) = disabled {
            return Err(self.nowhere(&format!("{name} says not to ask the metadata service")));
        }
        let now = Timestamp::now().seconds();
        let left = |keys: &AccessKey| keys.expires.map_or(u64::MAX, |end| end.seconds().saturating_sub(now));
        let kept = self.of_role().clone();
        if let Some(keys) = kept.as_ref().filter(|keys| left(keys) > self.dialect.refresh_before_expiry) {
            return Ok(keys.clone());
        }
        match self.fetch(http, metadata).await {
            Ok(keys) => {
                *self.of_role() = Some(keys.clone());
                Ok(keys)
            }
            // Those from before are good for some more minutes.
            Err(error) => kept.filter(|keys| left(keys) > 0).ok_or(error),
        }
    }

    /// The role's keys are fetched anew next time.
    pub(crate) fn forget(&self) {
        *self.of_role() = None;
    }

    fn of_role(&self) -> MutexGuard<'_, Option<AccessKey>> {
        self.of_role.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_environment(&self) -> Result<Option<AccessKey>, Failure> {
        for (id, secret, token) in self.dialect.variables.iter().copied() {
            let (name, other) = (id, secret);
            match (self.variables.get(id), self.variables.get(secret)) {
                (Some(id), Some(secret)) => {
                    let token = token.and_then(|token| self.variables.get(token)).map(Secret::new);
                    return Ok(Some(AccessKey { id, secret: Secret::new(secret), token, expires: None }));
                }
                (Some(_), None) => {
                    return Err(Failure::Credentials(format!("{name} is set, and {other} is not")));
                }
                (None, Some(_)) => {
                    return Err(Failure::Credentials(format!("{other} is set, and {name} is not")));
                }
                (None, None) => {}
            }
        }
        Ok(None)
    }

    async fn fetch(&self, http: &Http, metadata: &Imds) -> Result<AccessKey, Failure> {
        let KeyDialect { role_variable, role: word, roles, read, .. } = self.dialect;
        let session = metadata.session(http).await?;
        let role = match role_variable.and_then(|name| self.variables.get(name)) {
            Some(role) => role,
            None => session.lines(roles).await?.into_iter().next().unwrap_or_default(),
        };
        let role = role.trim();
        if role.is_empty() {
            return Err(self.nowhere(&format!("the metadata service knows no {word} of this instance")));
        }
        if !is_name(role) {
            return Err(self.nowhere(&format!("the {word}'s name has characters that it may not have")));
        }
        let text = session.text(&format!("meta-data/{roles}{role}")).await?;
        let text = text.ok_or_else(|| self.nowhere(&format!("this instance has no {word} {role}")))?;
        read(text.reveal())
            .ok_or_else(|| self.nowhere(&format!("the metadata service has no keys of the {word} {role}")))
    }

    /// Where was looked, and why there is nothing at the last place.
    fn nowhere(&self, reason: &str) -> Failure {
        let variables = self.dialect.variables.first();
        let variables = variables.map(|(id, secret, _)| format!("{id}, {secret}")).unwrap_or_default();
        Failure::Credentials(format!(
            "none are in the network config (AccessKeyID, AccessKeySecret), none in the environment ({variables}), and {reason}"
        ))
    }
}
