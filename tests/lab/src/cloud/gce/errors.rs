//! Refusals, in the shape in which Compute Engine has them.

use serde_json::{Value, json};

use super::super::server::Reply;

/// An answer that is none.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    code: u16,
    domain: &'static str,
    reason: &'static str,
    message: String,
    status: Option<&'static str>,
    details: Option<Box<Value>>,
    headers: Vec<(String, String)>,
}

impl Refusal {
    fn new(code: u16, reason: &'static str, message: String) -> Self {
        let (domain, headers) = ("global", Vec::new());
        Self { code, domain, reason, message, status: None, details: None, headers }
    }

    /// There is no such thing.
    pub(super) fn not_found(resource: &str) -> Self {
        Self::new(404, "notFound", format!("The resource '{resource}' was not found"))
    }

    /// There is one already.
    pub(super) fn exists(resource: &str) -> Self {
        Self::new(409, "alreadyExists", format!("The resource '{resource}' already exists"))
    }

    /// It is about to be made or removed.
    pub(super) fn not_ready(resource: &str) -> Self {
        Self::new(400, "resourceNotReady", format!("The resource '{resource}' is not ready"))
    }

    /// A field is not what it should be.
    pub(super) fn invalid(field: &str, value: &str, why: &str) -> Self {
        Self::new(400, "invalid", format!("Invalid value for field '{field}': '{value}'. {why}"))
    }

    /// A field is missing.
    pub(super) fn required(field: &str) -> Self {
        Self::new(400, "required", format!("Required field '{field}' not specified"))
    }

    /// Whoever asks may not.
    pub(super) fn forbidden(permission: &str, resource: &str) -> Self {
        let message = format!("Required '{permission}' permission for '{resource}'");
        Self::new(403, "forbidden", message)
    }

    /// The access token was not made for this.
    pub(super) fn scopes() -> Self {
        let message = "Request had insufficient authentication scopes.".to_owned();
        let details = json!([{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
            "domain": "googleapis.com",
            "metadata": { "service": "compute.googleapis.com" },
        }]);
        let refusal = Self::new(403, "insufficientPermissions", message);
        Self { status: Some("PERMISSION_DENIED"), details: Some(Box::new(details)), ..refusal }
    }

    /// There is no access token, or one that is not, or no longer, known.
    pub(super) fn unauthenticated() -> Self {
        let message = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other \
                       valid authentication credential. See \
                       https://developers.google.com/identity/sign-in/web/devconsole-project.";
        let challenge = r#"Bearer realm="https://accounts.google.com/", error="invalid_token""#;
        let refusal = Self::new(401, "authError", message.to_owned());
        let headers = vec![("WWW-Authenticate".to_owned(), challenge.to_owned())];
        Self { status: Some("UNAUTHENTICATED"), headers, ..refusal }
    }

    /// There are as many as there may be.
    pub(super) fn quota(message: String) -> Self {
        Self { domain: "usageLimits", ..Self::new(403, "quotaExceeded", message) }
    }

    /// Too many requests, as Compute Engine itself says it.
    pub(super) fn rate(project: &str) -> Self {
        let message = format!(
            "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service \
             'compute.googleapis.com' for consumer 'project_number:{project}'."
        );
        Self { domain: "usageLimits", ..Self::new(403, "rateLimitExceeded", message) }
    }

    /// Too many requests, as the servers in front of it say it.
    pub(super) fn throttled(seconds: u64) -> Self {
        let refusal =
            Self::new(429, "rateLimitExceeded", "Resource has been exhausted (e.g. check quota).".to_owned());
        let headers = vec![("Retry-After".to_owned(), seconds.to_string())];
        Self { domain: "usageLimits", status: Some("RESOURCE_EXHAUSTED"), headers, ..refusal }
    }

    /// Something is broken.
    pub(super) fn broken(code: u16) -> Self {
        let message = "Internal error. Please try again or contact Google Support. (Code: '0')".to_owned();
        Self { status: Some("INTERNAL"), ..Self::new(code, "backendError", message) }
    }

    /// As it goes over the wire.
    pub(super) fn reply(&self) -> Reply {
        let Self { code, domain, reason, message, .. } = self;
        let mut error = json!({
            "code": code,
            "message": message,
            "errors": [{ "message": message, "domain": domain, "reason": reason }],
        });
        if let Some(status) = self.status {
            error["status"] = status.into();
        }
        if let Some(details) = &self.details {
            error["details"] = Value::clone(details);
        }
        let mut reply = super::answer(*code, &json!({ "error": error }));
        if let Reply::Whole { headers, .. } = &mut reply {
            headers.extend(self.headers.iter().cloned());
        }
        reply
    }
}
