//! What goes wrong on request, and errors as the API words them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cloud::server::Reply;

/// An error of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// HTTP's.
    pub status: u16,
    /// `Throttling.User`
    pub code: String,
    /// For people.
    pub message: String,
    /// The action that is missing in the caller's permissions.
    pub denied: Option<String>,
    /// Milliseconds after which it may be tried again.
    pub retry_after: Option<u64>,
}

impl Error {
    /// An error with a status of HTTP, a code and a message.
    pub fn new(status: u16, code: &str, message: &str) -> Self {
        let (code, message) = (code.to_owned(), message.to_owned());
        Self { status, code, message, denied: None, retry_after: None }
    }

    /// A permission is missing.
    pub(super) fn denied(action: &str) -> Self {
        let text =
            "User not authorized to operate on the specified resource, or this API doesn't support RAM.";
        Self { denied: Some(action.to_owned()), ..Self::new(403, "Forbidden.RAM", text) }
    }
}

/// What a call meets.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is refused, and nothing is done.
    Refuse(Error),
    /// It is carried out, and half of the answer comes.
    Half,
    /// It is carried out, and nothing comes for so long, and then the connection's end.
    Silence(Duration),
}

impl Fault {
    /// Too many calls.
    pub fn throttled() -> Self {
        Self::Refuse(Error::new(400, "Throttling.User", "Request was denied due to user flow control."))
    }

    /// Too many calls, and when to come again.
    pub fn throttled_for(milliseconds: u64) -> Self {
        let error = Error::new(400, "Throttling.Api", "Request was denied due to api flow control.");
        Self::Refuse(Error { retry_after: Some(milliseconds), ..error })
    }

    /// The cloud itself has failed.
    pub fn internal() -> Self {
        let text = "The request processing has failed due to some unknown error, exception or failure.";
        Self::Refuse(Error::new(500, "InternalError", text))
    }

    /// Somebody else changes something.
    pub fn conflict() -> Self {
        let text = "The operation is too frequent, please wait a moment and try again.";
        Self::Refuse(Error::new(400, "TaskConflict", text))
    }
}

/// The answer on the wire.
pub(super) fn reply(
    outcome: Result<Value, Error>,
    request: &str,
    host: &str,
    fault: Option<&Fault>,
) -> Reply {
    let (status, body, retry_after) = match outcome {
        Ok(answer) => (200, answer, None),
        Err(error) => (error.status, body(&error, request, host), error.retry_after),
    };
    match fault {
        Some(Fault::Half) => {
            let body = body.to_string().into_bytes();
            let part = body.len() / 2;
            Reply::Half(body, part)
        }
        Some(Fault::Silence(time)) => Reply::Silence(*time),
        Some(Fault::Refuse(_)) | None => {
            let mut headers = vec![("Content-Type".to_owned(), "application/json;charset=utf-8".to_owned())];
            headers.extend(retry_after.map(|time| ("x-acs-retry-after".to_owned(), time.to_string())));
            Reply::Whole { status, headers, body: body.to_string().into_bytes() }
        }
    }
}

fn body(error: &Error, request: &str, host: &str) -> Value {
    let mut body = json!({
        "RequestId": request,
        "HostId": host,
        "Code": error.code,
        "Message": error.message,
        "Recommend": format!("https://api.aliyun.com/troubleshoot?q={}&product=Vpc", error.code),
    });
    if let Some(action) = &error.denied {
        body["AccessDeniedDetail"] = json!({
            "AuthAction": format!("vpc:{action}"),
            "AuthPrincipalType": "AssumedRoleUser",
            "NoPermissionType": "ImplicitDeny",
            "PolicyType": "AccountLevelIdentityBasedPolicy",
        });
    }
    body
}
