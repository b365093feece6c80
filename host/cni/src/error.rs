//! Errors as runtimes get them, with the codes of the specification.

use serde::Deserialize;
use serde_json::json;

use crate::version;

/// Codes of errors: those below 100 are the specification's (section 5), the last one is that of the CNI project's library.
pub(crate) mod codes {
    /// A version of the configuration that is not known here, or that lacks the command.
    pub(crate) const INCOMPATIBLE_VERSION: u32 = 1;
    /// A variable of the environment is missing or wrong.
    pub(crate) const ENVIRONMENT: u32 = 4;
    /// Something cannot be read or written.
    pub(crate) const IO: u32 = 5;
    /// What was read is no JSON, or not of the right types.
    pub(crate) const DECODING: u32 = 6;
    /// The network configuration asks for what cannot be.
    pub(crate) const CONFIG: u32 = 7;
    /// What is missing will come by itself.
    pub(crate) const TRY_AGAIN: u32 = 11;
    /// `ADD` would fail.
    pub(crate) const NOT_AVAILABLE: u32 = 50;
    /// `ADD` would fail, and pods that are there may have less than they had.
    pub(crate) const LIMITED_CONNECTIVITY: u32 = 51;
    /// A delegate that fails without saying why in CNI's form.
    pub(crate) const INTERNAL: u32 = 999;
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{msg}")]
pub(crate) struct CniError {
    /// One of [`codes`], or another plugin's own.
    pub(crate) code: u32,
    /// What is wrong and what would be right.
    pub(crate) msg: String,
    /// More of it, maybe.
    #[serde(default)]
    pub(crate) details: String,
}

impl CniError {
    pub(crate) fn new(code: u32, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// The same with more to read.
    pub(crate) fn with_details(self, details: impl Into<String>) -> Self {
        Self { details: details.into(), ..self }
    }

    /// Message and details in one line.
    pub(crate) fn in_full(&self) -> String {
        if self.details.is_empty() { self.msg.clone() } else { format!("{}: {}", self.msg, self.details) }
    }

    /// As the specification has it. `version`: that of the request, as far as it is known.
    pub(crate) fn to_json(&self, version: Option<&str>) -> Vec<u8> {
        let version = version.unwrap_or(version::NEWEST);
        let mut text =
            json!({"cniVersion": version, "code": self.code, "msg": self.msg, "details": self.details})
                .to_string();
        text.push('\n');
        text.into_bytes()
    }
}
