//! Access keys, and the JSON in which the metadata service and containers give them.

use flannel_base::Timestamp;
use serde::Deserialize;

use crate::Secret;
use crate::access_key::AccessKey;

impl AccessKey {
    /// Those whose parts can be what they should be.
    pub(super) fn checked(self) -> Option<Self> {
        let is_id = (1..=128).contains(&self.id.len()) && self.id.bytes().all(|b| b.is_ascii_alphanumeric());
        let is_visible = |secret: &Secret| {
            let text = secret.reveal();
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let is_whole = is_id && is_visible(&self.secret) && self.token.as_ref().is_none_or(is_visible);
        is_whole.then_some(self)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
    /// The metadata service's: `Success`, or what is wrong.
    code: Option<String>,
}

/// The keys in an answer's JSON.
pub(super) fn of_json(text: &Secret) -> Option<AccessKey> {
    let given: Given = serde_json::from_str(text.reveal()).ok()?;
    let (secret, token) = (Secret::new(given.secret_access_key), given.token.map(Secret::new));
    if given.code.is_some_and(|code| code != "Success") {
        return None;
    }
    let expires = match given.expiration {
        Some(text) => Some(time(&text)?),
        None => None,
    };
    AccessKey { id: given.access_key_id, secret, token, expires }.checked()
}

/// A time, of which fractions of a second do not matter.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let whole = text.split_once('.').map_or(text.to_owned(), |(whole, _)| format!("{whole}Z"));
    whole.parse().ok()
}
