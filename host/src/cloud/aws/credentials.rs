//! Access keys, from the first of these places that has them: the environment, a web identity, the shared file, the instance's role.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

use super::imds::Imds;
use super::sts;
use crate::cloud::options::CloudOptions;
use crate::cloud::request::Failure;
use crate::cloud::secret::Secret;
use crate::http::Http;
use crate::observe::Timestamp;

/// Seconds before their end from which on keys are fetched anew. The metadata service has new ones at least five minutes before.
const AHEAD: u64 = 5 * 60;
const ROLES: &str = "meta-data/iam/security-credentials/";

/// An access key, perhaps of a session.
#[derive(Clone, Debug)]
pub(super) struct Keys {
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
    options: CloudOptions,
    /// Of a session.
    kept: Mutex<Option<Keys>>,
}

impl Credentials {
    pub fn new(options: CloudOptions) -> Self {
        Self { options, kept: Mutex::default() }
    }

    /// Keys that are good now.
    pub async fn keys(&self, http: &Http, imds: &Imds, region: &str) -> Result<Keys, Failure> {
        if let Some(keys) = self.of_environment()? {
            return Ok(keys);
        }
        let now = Timestamp::now().seconds();
        let left = |keys: &Keys| keys.expires.map_or(u64::MAX, |end| end.seconds().saturating_sub(now));
        let kept = self.kept().clone();
        if let Some(keys) = kept.as_ref().filter(|keys| left(keys) > AHEAD) {
            return Ok(keys.clone());
        }
        let fetched = match sts::keys(&self.options, http, region).await {
            Ok(Some(keys)) => Ok(keys),
            Ok(None) => match self.of_file()? {
                Some(keys) => return Ok(keys),
                None => of_role(http, imds).await,
            },
            Err(error) => Err(error),
        };
        match fetched {
            Ok(keys) => {
                *self.kept() = Some(keys.clone());
                Ok(keys)
            }
            // Those from before are good for some more minutes.
            Err(error) => kept.filter(|keys| left(keys) > 0).ok_or(error),
        }
    }

    /// A session's keys are fetched anew next time.
    pub fn forget(&self) {
        *self.kept() = None;
    }

    fn kept(&self) -> MutexGuard<'_, Option<Keys>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_environment(&self) -> Result<Option<Keys>, Failure> {
        const ID: &str = "AWS_ACCESS_KEY_ID";
        const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
        let get = |name: &str| self.options.variables.get(name);
        match (get(ID), get(SECRET)) {
            (Some(id), Some(secret)) => {
                // The second one is the name of old.
                let token = get("AWS_SESSION_TOKEN").or_else(|| get("AWS_SECURITY_TOKEN")).map(Secret::new);
                Ok(Some(Keys { id, secret: Secret::new(secret), token, expires: None }))
            }
            (Some(_), None) => Err(Failure::Credentials(format!("{ID} is set, and {SECRET} is not"))),
            (None, Some(_)) => Err(Failure::Credentials(format!("{SECRET} is set, and {ID} is not"))),
            (None, None) => Ok(None),
        }
    }

    /// The shared file's keys; none: there is no such file, or no such keys in it.
    fn of_file(&self) -> Result<Option<Keys>, Failure> {
        const FILE: &str = "AWS_SHARED_CREDENTIALS_FILE";
        let get = |name: &str| self.options.variables.get(name);
        let usual = || get("HOME").map(|home| PathBuf::from(home).join(".aws/credentials"));
        let said = get(FILE).map(PathBuf::from);
        let is_said = said.is_some() || get("AWS_PROFILE").is_some();
        let Some(file) = said.or_else(usual) else { return Ok(None) };
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => Secret::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_said => return Ok(None),
            Err(error) => return Err(Failure::Credentials(format!("{}: {error}", file.display()))),
        };
        let profile = get("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
        match of_profile(text.reveal(), &profile) {
            Some(keys) => Ok(Some(keys)),
            None if is_said => {
                Err(Failure::Credentials(format!("{} has no keys for the profile {profile}", file.display())))
            }
            None => Ok(None),
        }
    }
}

/// A section's keys: `aws_access_key_id`, `aws_secret_access_key` and, perhaps, `aws_session_token`.
fn of_profile(text: &str, profile: &str) -> Option<Keys> {
    let lines = text.lines().map(str::trim);
    let mut section = lines.skip_while(|line| {
        let name = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        name.map(str::trim) != Some(profile)
    });
    section.next()?;
    let pairs: Vec<(&str, &str)> = section
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with(['#', ';']))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim(), value.trim()))
        .collect();
    let value = |wanted: &str| {
        let found = pairs.iter().find(|(name, value)| name.eq_ignore_ascii_case(wanted) && !value.is_empty());
        found.map(|(_, value)| (*value).to_owned())
    };
    Some(Keys {
        id: value("aws_access_key_id")?,
        secret: Secret::new(value("aws_secret_access_key")?),
        token: value("aws_session_token").map(Secret::new),
        expires: None,
    })
}

/// What the metadata service says of a role's session.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: String,
    secret_access_key: String,
    token: String,
    expiration: String,
}

async fn of_role(http: &Http, imds: &Imds) -> Result<Keys, Failure> {
    let nowhere = |reason: &str| {
        Failure::Credentials(format!(
            "none are in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), no web identity is (AWS_WEB_IDENTITY_TOKEN_FILE, \
             AWS_ROLE_ARN), the shared file has none (AWS_SHARED_CREDENTIALS_FILE), and {reason}"
        ))
    };
    let roles = match imds.text(http, ROLES).await {
        Ok(roles) => roles.unwrap_or_default(),
        Err(Failure::Unreachable(reason)) => return Err(nowhere(&reason)),
        Err(error) => return Err(error),
    };
    let role = roles.lines().next().unwrap_or_default().trim();
    if role.is_empty() {
        return Err(nowhere("the metadata service knows no role of this instance"));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
    if role.len() > 128 || !role.chars().all(is_name) {
        return Err(nowhere("the role's name has characters that it may not have"));
    }
    let text = imds.text(http, &format!("{ROLES}{role}")).await?.map(Secret::new);
    let given: Option<Given> = text.and_then(|text| serde_json::from_str(text.reveal()).ok());
    let keys = given.and_then(|given| {
        Some(Keys {
            id: given.access_key_id,
            secret: Secret::new(given.secret_access_key),
            token: Some(Secret::new(given.token)),
            expires: Some(given.expiration.parse().ok()?),
        })
    });
    keys.ok_or_else(|| nowhere(&format!("the metadata service has no keys of the role {role}")))
}
