//! Access tokens: who has one, for what, and until when.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::errors::Refusal;

/// What an access token looks like here: no secret that anything but a lab knows begins so, and whoever looks for leaks can look
/// for this.
pub const TOKEN_PREFIX: &str = "ya29.made-up-";
/// How long they are good for, as at Google.
const LIFETIME: Duration = Duration::from_secs(3_599);
/// The metadata service hands the same one out again until it is almost over.
const ALMOST_OVER: Duration = Duration::from_mins(5);

/// Who may ask Compute Engine for something, and may read or also write.
const SCOPES: [(&str, bool); 3] = [
    ("https://www.googleapis.com/auth/cloud-platform", true),
    ("https://www.googleapis.com/auth/compute", true),
    ("https://www.googleapis.com/auth/compute.readonly", false),
];

/// All tokens that were issued.
#[derive(Debug)]
pub(super) struct Tokens {
    issued: BTreeMap<String, Token>,
    pub(super) lifetime: Duration,
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// Whom it speaks for.
    pub(super) account: String,
    scopes: Vec<String>,
    expires: Instant,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { issued: BTreeMap::new(), lifetime: LIFETIME }
    }
}

impl Tokens {
    /// A new one, and how many seconds it is good for.
    pub(super) fn issue(&mut self, account: &str, scopes: &[&str]) -> (String, u64) {
        let random = RandomState::new();
        let text = format!("{TOKEN_PREFIX}{:016x}{:016x}", random.hash_one(0), random.hash_one(1));
        let expires = Instant::now() + self.lifetime;
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        self.issued.insert(text.clone(), Token { account: account.to_owned(), scopes, expires });
        (text, self.lifetime.as_secs())
    }

    /// One that an account has already, or a new one.
    pub(super) fn of(&mut self, account: &str, scopes: &[&str]) -> (String, u64) {
        let left = |token: &Token| token.expires.saturating_duration_since(Instant::now());
        let good = self.issued.iter().find(|(_, token)| {
            token.account == account && token.scopes == scopes && left(token) > ALMOST_OVER
        });
        match good {
            Some((text, token)) => (text.clone(), left(token).as_secs()),
            None => self.issue(account, scopes),
        }
    }

    /// All of them are over.
    pub(super) fn expire(&mut self) {
        self.issued.clear();
    }

    /// Whom the value of an `Authorization` speaks for.
    pub(super) fn check(&self, authorization: Option<&str>, writes: bool) -> Result<Token, Refusal> {
        let text = authorization.and_then(|value| value.strip_prefix("Bearer "));
        let token =
            text.and_then(|text| self.issued.get(text)).filter(|token| token.expires > Instant::now());
        let token = token.ok_or_else(Refusal::unauthenticated)?;
        let enough = |(scope, may_write): &(&str, bool)| {
            (*may_write || !writes) && token.scopes.iter().any(|own| own == scope)
        };
        if SCOPES.iter().any(enough) { Ok(token.clone()) } else { Err(Refusal::scopes()) }
    }
}
