//! What the cloud says when it does not do something, and what that means for the operator.

use flannel_backend::cloud::{Error as CloudError, Response};
use flannel_backend::serde_json::{self, Value};

/// Characters of what is shown of the cloud's own words.
const LONGEST: usize = 400;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP's; 0: it was never asked, or the answer makes no sense.
    status: u64,
    /// The cloud's word for it: `notFound`, `QUOTA_EXCEEDED`.
    reason: String,
    /// What the cloud says.
    message: String,
    /// Which quota, where that is said on its own.
    quota: Option<String>,
}

impl From<CloudError> for Refusal {
    fn from(failure: CloudError) -> Self {
        Self { status: 0, reason: String::new(), message: failure.to_string(), quota: None }
    }
}

impl Refusal {
    /// What a call was answered with.
    pub fn read(answer: &Response) -> Self {
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let (status, error) = (u64::from(answer.status), &body["error"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let detail = error["details"].as_array().into_iter().flatten().find(|one| one["reason"].is_string());
        let reason = match &error["errors"][0]["reason"] {
            Value::String(reason) => reason.clone(),
            _ => text(detail.map_or(&error["status"], |detail| &detail["reason"])),
        };
        let message = match text(&error["message"]) {
            empty if empty.is_empty() => "no explanation".to_owned(),
            message => message,
        };
        Self { status, reason, message, quota: None }
    }

    /// How an operation that is over has failed; none: it has not.
    pub fn of_operation(operation: &Value) -> Option<Self> {
        let error = operation["error"]["errors"].get(0)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let details = error["errorDetails"].as_array().into_iter().flatten();
        let quota = details.map(|detail| &detail["quotaInfo"]).find(|quota| quota.is_object());
        let quota = quota.map(|quota| format!("{}, limit {}", text(&quota["metricName"]), quota["limit"]));
        let status = operation["httpErrorStatusCode"].as_u64().unwrap_or_default();
        Some(Self { status, reason: text(&error["code"]), message: text(&error["message"]), quota })
    }

    /// An answer that makes no sense.
    pub fn nonsense(what: &str) -> Self {
        Self {
            status: 0,
            reason: String::new(),
            message: format!("the cloud answers with {what}"),
            quota: None,
        }
    }

    /// There is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.status == 404 && self.reason == "notFound"
    }

    /// It is there already, or is being made or removed.
    pub fn is_overtaken(&self) -> bool {
        ["alreadyExists", "resourceNotReady"].contains(&self.reason.as_str())
    }

    /// There are as many as there may be.
    pub fn is_about_room(&self) -> bool {
        ["quotaExceeded", "QUOTA_EXCEEDED", "limitExceeded", "LIMIT_EXCEEDED"].contains(&self.reason.as_str())
    }

    /// For the operator, in one line: what cannot be done, what the cloud says, and what to do. `room`: how full it is.
    pub fn text(&self, doing: &str, room: &str) -> String {
        let said: String = self.message.split_whitespace().collect::<Vec<_>>().join(" ");
        let said: String = said.chars().take(LONGEST).collect();
        if self.is_about_room() {
            let quota = self.quota.as_deref().map(|quota| format!(" (quota {quota})")).unwrap_or_default();
            let room = if room.is_empty() { String::new() } else { format!("; {room}") };
            return format!(
                "cannot {doing}: {said}{quota}{room}: remove routes that nobody needs, or ask for a higher quota (IAM & Admin, Quotas)"
            );
        }
        if let Some(permission) = permission(&said) {
            return format!(
                "cannot {doing}: {said}: grant {permission} to the node's service account; flanneld plugin inspect prints a role with \
                 all that gce needs"
            );
        }
        if ["insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"].contains(&self.reason.as_str()) {
            return format!(
                "cannot {doing}: {said}: the instance's access scopes must have https://www.googleapis.com/auth/compute or \
                 cloud-platform, which can be set while it is stopped"
            );
        }
        match (self.status, self.reason.as_str()) {
            (0, _) => format!("cannot {doing}: {said}"),
            (status, "") => format!("cannot {doing}: {said} (status {status})"),
            (status, reason) => format!("cannot {doing}: {said} ({reason}, status {status})"),
        }
    }
}

/// The permission that is missing, of `Required 'PERMISSION' permission for …`.
fn permission(said: &str) -> Option<&str> {
    let (permission, _) = said.split_once("Required '")?.1.split_once("' permission")?;
    Some(permission)
}
