//! What the cloud says when it does not do something, and what that means for the operator.

use flannel_backend::http::{Error as HttpError, Response};
use flannel_backend::serde_json::{self, Value};

use super::api::{ENDPOINT, NetworkId};

/// Characters of what is shown of the cloud's own words.
const LONGEST: usize = 400;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP's; 0: it was never asked, or the answer makes no sense.
    status: u16,
    /// The cloud's word for it: `not_found`, `conflict`.
    code: String,
    /// What the cloud says.
    message: String,
}

impl From<HttpError> for Refusal {
    fn from(failure: HttpError) -> Self {
        Self { status: 0, code: String::new(), message: failure.to_string() }
    }
}

impl Refusal {
    /// What a call was answered with: `{"error":{"code","message"}}`.
    pub fn read(answer: &Response) -> Self {
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        Self { status: answer.status, ..Self::of_action(&body) }
    }

    /// How an action has failed.
    pub fn of_action(value: &Value) -> Self {
        let text = |member: &str| value["error"][member].as_str().unwrap_or_default().to_owned();
        let message = match text("message") {
            empty if empty.is_empty() => "no explanation".to_owned(),
            message => message,
        };
        Self { status: 0, code: text("code"), message }
    }

    /// An answer that makes no sense.
    pub fn nonsense(what: &str) -> Self {
        Self { status: 0, code: String::new(), message: format!("the cloud answers with {what}") }
    }

    /// There is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.status == 404
    }

    /// Another change is being carried out.
    pub fn is_busy(&self) -> bool {
        matches!((self.status, self.code.as_str()), (409, "conflict" | "") | (423, _) | (_, "locked"))
    }

    /// For the operator, in one line: what cannot be done, what the cloud says, and what to do.
    pub fn text(&self, doing: &str, network: NetworkId) -> String {
        let said: String = self.message.split_whitespace().collect::<Vec<_>>().join(" ");
        let said: String = said.chars().take(LONGEST).collect();
        let advice = match (self.status, self.code.as_str()) {
            (_, "resource_limit_exceeded") => {
                ": a network has room for 100 routes; remove those that nobody needs".to_owned()
            }
            (401, _) => format!(
                ": the token of endpoint {ENDPOINT} is not known to Hetzner Cloud; right would be one of the project that network \
                 {network} is in"
            ),
            (403, _) | (_, "token_readonly") => {
                format!(": the token of endpoint {ENDPOINT} has to have the permission Read & Write")
            }
            (404, _) => format!(
                ": the project of endpoint {ENDPOINT}'s token has no network {network}; `hcloud network list` shows those that there are"
            ),
            (429, _) => ": the project makes more requests than it may, 3600 an hour for all nodes together"
                .to_owned(),
            _ => String::new(),
        };
        match (self.status, self.code.as_str()) {
            (0, "") => format!("cannot {doing}: {said}{advice}"),
            (0, code) => format!("cannot {doing}: {said} ({code}){advice}"),
            (status, "") => format!("cannot {doing}: {said} (status {status}){advice}"),
            (status, code) => format!("cannot {doing}: {said} ({code}, status {status}){advice}"),
        }
    }
}
