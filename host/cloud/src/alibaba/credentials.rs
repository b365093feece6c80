//! Access keys: from the network config, from the environment, or from the instance's RAM role.

use std::sync::{Mutex, MutexGuard, PoisonError};

use flannel_base::Timestamp;
use serde::Deserialize;

use crate::Secret;
use crate::http::Http;
use crate::imds::{Imds, is_name};
use crate::options::{CloudOptions, Variables};
use crate::request::Failure;

/// Pairs of variables, with that of a session's token: those of today's SDKs, and upstream's.
const VARIABLES: [(&str, &str, Option<&str>); 2] = [
    ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", Some("ALIBABA_CLOUD_SECURITY_TOKEN")),
    ("ACCESS_KEY_ID", "ACCESS_KEY_SECRET", None),
];
/// Seconds before their end from which on the role's keys are fetched anew. The metadata service has new ones long before; the
/// vendor's SDKs fetch them at the same time.
const REFRESH_BEFORE_EXPIRY: u64 = 15 * 60;

/// An access key, perhaps of a session.
#[derive(Clone, Debug)]
pub(super) struct AccessKey {
    /// Not secret.
    pub id: String,
    /// Signs.
    pub secret: Secret,
    /// Of a session.
    pub token: Option<Secret>,
    /// A session's end.
    pub expires: Option<Timestamp>,
}

/// Where keys come from.
pub(super) struct Credentials {
    configured: Option<AccessKey>,
    variables: Variables,
    of_role: Mutex<Option<AccessKey>>,
}

impl Credentials {
    pub(super) fn new(options: &CloudOptions) -> Self {
        let configured = options.access_key.clone();
        let configured = configured.map(|(id, secret)| AccessKey { id, secret, token: None, expires: None });
        Self { configured, variables: options.variables.clone(), of_role: Mutex::new(None) }
    }

    /// AccessKey that are good now.
    pub(super) async fn keys(&self, http: &Http, metadata: &Imds) -> Result<AccessKey, Failure> {
        if let Some(keys) = &self.configured {
            return Ok(keys.clone());
        }
        if let Some(keys) = self.of_environment()? {
            return Ok(keys);
        }
        let is =
            |name: &str| self.variables.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if is("ALIBABA_CLOUD_ECS_METADATA_DISABLED") {
            return Err(nowhere("ALIBABA_CLOUD_ECS_METADATA_DISABLED says not to ask the metadata service"));
        }
        let now = Timestamp::now().seconds();
        let left = |keys: &AccessKey| keys.expires.map_or(u64::MAX, |end| end.seconds().saturating_sub(now));
        let kept = self.of_role().clone();
        if let Some(keys) = kept.as_ref().filter(|keys| left(keys) > REFRESH_BEFORE_EXPIRY) {
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
    pub(super) fn forget(&self) {
        *self.of_role() = None;
    }

    fn of_role(&self) -> MutexGuard<'_, Option<AccessKey>> {
        self.of_role.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_environment(&self) -> Result<Option<AccessKey>, Failure> {
        for (id, secret, token) in VARIABLES {
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
        let session = metadata.session(http).await?;
        let role = match self.variables.get("ALIBABA_CLOUD_ECS_METADATA") {
            Some(role) => role,
            None => session.lines("ram/security-credentials/").await?.into_iter().next().unwrap_or_default(),
        };
        let role = role.trim();
        if role.is_empty() {
            return Err(nowhere("the metadata service knows no RAM role of this instance"));
        }
        if !is_name(role) {
            return Err(nowhere("the RAM role's name has characters that it may not have"));
        }
        let text = session.text(&format!("meta-data/ram/security-credentials/{role}")).await?;
        let text = text.ok_or_else(|| nowhere(&format!("this instance has no RAM role {role}")))?;
        let given = serde_json::from_str(text.reveal()).ok().and_then(Given::checked);
        given.ok_or_else(|| nowhere(&format!("the metadata service has no keys of the RAM role {role}")))
    }
}

/// Where was looked, and why there is nothing at the last place.
fn nowhere(reason: &str) -> Failure {
    Failure::Credentials(format!(
        "none are in the network config (AccessKeyID, AccessKeySecret), none in the environment \
         (ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET), and {reason}"
    ))
}

/// What the metadata service says of a role's session.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    code: String,
    access_key_id: String,
    access_key_secret: String,
    security_token: String,
    expiration: String,
}

impl Given {
    fn checked(self) -> Option<AccessKey> {
        let (secret, token) = (Secret::new(self.access_key_secret), Secret::new(self.security_token));
        let is_whole = self.code == "Success"
            && is_name(&self.access_key_id)
            && !secret.reveal().is_empty()
            && !token.reveal().is_empty();
        let expires = self.expiration.parse().ok()?;
        is_whole.then_some(AccessKey {
            id: self.access_key_id,
            secret,
            token: Some(token),
            expires: Some(expires),
        })
    }
}
