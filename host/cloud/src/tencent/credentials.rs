//! Access keys of Tencent's: variables, and the CAM role of the instance.

use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::access_key::{AccessKey, KeyDialect};

pub(super) static DIALECT: KeyDialect = KeyDialect {
    variables: &[
        ("TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY", Some("TENCENTCLOUD_TOKEN")),
        ("ACCESS_KEY_ID", "ACCESS_KEY_SECRET", None),
    ],
    role_variable: None,
    metadata_disabled: None,
    role: "CAM role",
    roles: "cam/security-credentials/",
    // As the vendor's SDKs.
    refresh_before_expiry: 5 * 60,
    read,
};

/// What the metadata service says of a role's session.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    code: String,
    tmp_secret_id: String,
    tmp_secret_key: String,
    token: String,
    /// Seconds since 1970.
    expired_time: u64,
}

fn read(text: &str) -> Option<AccessKey> {
    let given: Given = serde_json::from_str(text).ok()?;
    let expires = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(given.expired_time))?;
    let keys = AccessKey::of_session(given.tmp_secret_id, given.tmp_secret_key, given.token, expires.into());
    keys.filter(|_| given.code == "Success")
}
