//! Access tokens of Microsoft Entra ID for what Azure gives a machine or a pod: workload identities, and managed ones.
//! <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>

mod managed;
mod workload;

use std::time::{Instant, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use super::outside::Outside;
use crate::access_token::{self, Kept, Reply, Token};
use crate::{Failure, Secret};

/// Who asks, and for what.
#[derive(Debug)]
pub(super) struct AzureIdentity {
    /// What tokens are for: `https://management.azure.com/`
    pub resource: String,
    /// None: the only one that there is.
    pub identity: Option<Identity>,
    pub kept: Kept,
}

/// One of several identities of a machine, by its own number, its principal's, or its path among the resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    Client(String),
    Object(String),
    Resource(String),
}

impl AzureIdentity {
    /// A token, and what else must not come back.
    pub(super) async fn token(&self, outside: &Outside) -> Result<(Secret, Vec<Secret>), Failure> {
        self.kept.token(&self.resource, self.new_token(outside)).await
    }

    async fn new_token(&self, outside: &Outside) -> Result<(Token, Vec<Secret>), Failure> {
        // The other two are managed identities for certain.
        let client = match &self.identity {
            None => Some(None),
            Some(Identity::Client(id)) => Some(Some(id.as_str())),
            Some(Identity::Object(_) | Identity::Resource(_)) => None,
        };
        if let Some(client) = client
            && let Some(workload) = workload::Workload::of(&outside.variables, client)?
        {
            return workload.token(&outside.http, &self.resource).await;
        }
        managed::Source::of(&outside.variables)?
            .token(&outside.http, &self.resource, self.identity.as_ref())
            .await
    }
}

/// The token of an answer, or who has said why there is none.
fn given(
    who: &str,
    reply: &Reply,
    asked: Instant,
    secrets: Vec<Secret>,
) -> Result<(Token, Vec<Secret>), Failure> {
    /// Numbers are written as such, or as text.
    #[derive(Deserialize)]
    struct Written {
        access_token: String,
        expires_in: Option<Value>,
        expires_on: Option<Value>,
    }
    let number = |value: Option<Value>| match value? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let read = || {
        let Written { access_token, expires_in, expires_on } = serde_json::from_slice(&reply.body).ok()?;
        let left = || {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
            number(expires_on).map(|end| end.saturating_sub(now))
        };
        Token::new(Secret::new(access_token), number(expires_in).or_else(left), asked)
    };
    let token = if reply.status == 200 { read() } else { None };
    let Some(token) = token else {
        let said = access_token::refusal(reply.status, &reply.body, &secrets);
        return Err(Failure::Credentials(format!("{who} answers: {said}")));
    };
    Ok((token, secrets))
}
