//! Access tokens for a client's secret (OAuth 2.0, RFC 6749, section 4.4). They are kept until shortly before their end.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::credentials::{basic, read};
use crate::access_token::{self, Token};
use crate::http::{Http, Url};
use crate::{Failure, Secret, percent};

/// So often a token endpoint is asked that fails by itself, and how long is waited after the first time.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);

/// A client of a token endpoint.
pub(super) struct OauthClient {
    pub token_url: Url,
    pub client_id: String,
    pub client_secret_file: PathBuf,
    pub scope: Option<String>,
    pub kept: Mutex<Option<Token>>,
}

impl std::fmt::Debug for OauthClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OauthClient({} at {})", self.client_id, self.token_url.shown())
    }
}

impl OauthClient {
    /// A token, and what else must not come back. One that is about to end goes on to be used where there is no other.
    pub(super) async fn token(&self, http: &Http) -> Result<(Secret, Vec<Secret>), Failure> {
        let kept = self.kept().clone();
        if let Some(token) = kept.as_ref().filter(|token| token.is_fresh()) {
            return Ok((token.text.clone(), Vec::new()));
        }
        match (self.new_token(http).await, kept.filter(Token::is_good)) {
            (Ok((token, secrets)), _) => {
                debug!(client = self.client_id, "got an access token");
                let text = token.text.clone();
                *self.kept() = Some(token);
                Ok((text, secrets))
            }
            (Err(error), Some(old)) => {
                warn!(%error, "the access token cannot be refreshed; it is good for a little while yet");
                Ok((old.text, Vec::new()))
            }
            (Err(error), None) => Err(error),
        }
    }

    /// The next token is a new one.
    pub(super) fn forget(&self) {
        *self.kept() = None;
    }

    fn kept(&self) -> MutexGuard<'_, Option<Token>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn new_token(&self, http: &Http) -> Result<(Token, Vec<Secret>), Failure> {
        let secret = read(&self.client_secret_file)?;
        // Both are encoded as in a form before they become user and password (section 2.3.1).
        let (id, encoded) = (percent(&self.client_id), Secret::new(percent(secret.reveal())));
        let (client, sent) = basic(&id, &encoded)?;
        let open = |text: &str| Secret::new(text.to_owned());
        let mut form = vec![("grant_type", open("client_credentials"))];
        form.extend(self.scope.as_deref().map(|scope| ("scope", open(scope))));
        let secrets = vec![secret, sent];
        let mut attempt = 1;
        loop {
            let asked = Instant::now();
            let outcome = access_token::ask(http, &self.token_url, Some(client.clone()), &form).await;
            let failed = outcome.as_ref().map_or(true, |(status, _)| *status == 429 || *status >= 500);
            if failed && attempt < ATTEMPTS {
                tokio::time::sleep(PAUSE * attempt).await;
                attempt += 1;
                continue;
            }
            let (status, body) = outcome.map_err(|error| Failure::Credentials(error.to_string()))?;
            let token = if status == 200 { Token::read(&body, asked) } else { None };
            return token.map(|token| (token, secrets.clone())).ok_or_else(|| {
                let said = access_token::refusal(status, &body, &secrets);
                Failure::Credentials(format!(
                    "client {}: {} answers: {said}",
                    self.client_id,
                    self.token_url.shown()
                ))
            });
        }
    }
}
