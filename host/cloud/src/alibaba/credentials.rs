//! Access keys of Alibaba's: variables, and the RAM role of the instance.

use serde::Deserialize;

use crate::access_key::{AccessKey, KeyDialect};

pub(super) static DIALECT: KeyDialect = KeyDialect {
    variables: &[
        (
            "ALIBABA_CLOUD_ACCESS_KEY_ID",
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
            Some("ALIBABA_CLOUD_SECURITY_TOKEN"),
        ),
        ("ACCESS_KEY_ID", "ACCESS_KEY_SECRET", None),
    ],
    role_variable: Some("ALIBABA_CLOUD_ECS_METADATA"),
    metadata_disabled: Some("ALIBABA_CLOUD_ECS_METADATA_DISABLED"),
    role: "RAM role",
    roles: "ram/security-credentials/",
    // The metadata service has new ones long before; the vendor's SDKs fetch them at the same time.
    refresh_before_expiry: 15 * 60,
    read,
};

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

fn read(text: &str) -> Option<AccessKey> {
    let given: Given = serde_json::from_str(text).ok()?;
    let expires = given.expiration.parse().ok()?;
    let keys =
        AccessKey::of_session(given.access_key_id, given.access_key_secret, given.security_token, expires);
    keys.filter(|_| given.code == "Success")
}
