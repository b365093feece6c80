//! Where access tokens come from, in Google's own order: the file that `GOOGLE_APPLICATION_CREDENTIALS` names, else the metadata
//! service. They are kept until shortly before their end.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use tracing::{debug, warn};

use super::account::Account;
use super::metadata::Metadata;
use super::no_credentials;
use crate::Secret;
use crate::access_token::{self, Question, Reply, Token, is_passing};
use crate::http::{Http, Url};
use crate::options::Variables;
use crate::request::Failure;

/// Access tokens.
pub(super) struct Credentials {
    variables: Variables,
    kept: Mutex<Option<(&'static str, Token)>>,
}

impl Credentials {
    pub(super) fn new(variables: Variables) -> Self {
        Self { variables, kept: Mutex::new(None) }
    }

    /// A token for a scope: the one that is kept, as long as it is fresh. One that is about to end goes on to be used where there
    /// is no other.
    pub(super) async fn token(&self, http: &Http, scope: &'static str) -> Result<Secret, Failure> {
        let kept = self.kept().clone().filter(|(its, _)| *its == scope).map(|(_, token)| token);
        if let Some(token) = kept.as_ref().filter(|token| token.is_fresh()) {
            return Ok(token.text.clone());
        }
        match (self.new_token(http, scope).await, kept.filter(Token::is_good)) {
            (Ok(token), _) => {
                debug!("got an access token");
                let text = token.text.clone();
                *self.kept() = Some((scope, token));
                Ok(text)
            }
            (Err(error), Some(old)) => {
                warn!(%error, "the access token cannot be refreshed; it is good for a little while yet");
                Ok(old.text)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// The next token is a new one.
    pub(super) fn forget(&self) {
        *self.kept() = None;
    }

    fn kept(&self) -> MutexGuard<'_, Option<(&'static str, Token)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn new_token(&self, http: &Http, scope: &str) -> Result<Token, Failure> {
        let Some(account) = Account::of(&self.variables)? else {
            return Metadata::new(&self.variables)?.token(http).await;
        };
        let (url, form, secrets) = account.grant(scope, SystemTime::now())?;
        let asked = Instant::now();
        let reply = Question::form(&url, None, &form).ask_patiently(http, is_passing).await;
        let Reply { status, body, .. } = reply.map_err(|error| no_credentials(&error))?;
        let token = if status == 200 { Token::read(&body, asked) } else { None };
        token.ok_or_else(|| refused(&account, &url, status, &body, &secrets))
    }
}

/// Says whose credentials are no good, and why.
fn refused(account: &Account, url: &Url, status: u16, body: &[u8], secrets: &[Secret]) -> Failure {
    let said = access_token::refusal(status, body, secrets);
    Failure::Credentials(format!("{account}: {} answers: {said}", url.shown()))
}
