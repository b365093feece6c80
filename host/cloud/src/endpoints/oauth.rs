//! Access tokens for a client's secret (OAuth 2.0, RFC 6749, section 4.4). They are kept until shortly before their end.

use std::path::PathBuf;
use std::time::Instant;

use super::credentials::{basic, read};
use crate::access_token::{self, Kept, Question, Token, is_passing};
use crate::http::{Http, Url};
use crate::{Failure, Secret, percent};

/// A client of a token endpoint.
#[derive(Debug)]
pub(super) struct OauthClient {
    pub token_url: Url,
    pub client_id: String,
    pub client_secret_file: PathBuf,
    pub scope: Option<String>,
    pub kept: Kept,
}

impl OauthClient {
    /// A token, and what else must not come back.
    pub(super) async fn token(&self, http: &Http) -> Result<(Secret, Vec<Secret>), Failure> {
        self.kept.token(&self.client_id, self.new_token(http)).await
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
        let asked = Instant::now();
        let question = Question::form(&self.token_url, Some(client), &form);
        let reply = question.ask_patiently(http, is_passing).await;
        let reply = reply.map_err(|error| Failure::Credentials(error.to_string()))?;
        let token = if reply.status == 200 { Token::read(&reply.body, asked) } else { None };
        token.map(|token| (token, secrets.clone())).ok_or_else(|| {
            let said = access_token::refusal(reply.status, &reply.body, &secrets);
            Failure::Credentials(format!(
                "client {}: {} answers: {said}",
                self.client_id,
                self.token_url.shown()
            ))
        })
    }
}
