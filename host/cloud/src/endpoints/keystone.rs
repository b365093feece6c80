//! Tokens of `OpenStack`'s Identity service (Keystone), version 3: <https://docs.openstack.org/api-ref/identity/v3/>.

use std::path::PathBuf;
use std::time::Instant;

use flannel_base::Timestamp;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::credentials::read;
use crate::access_token::{Kept, Question, Reply, Token, is_passing};
use crate::http::{Http, Url};
use crate::redact::redact;
use crate::{Failure, Secret};

/// The header that a token is sent in.
pub(super) const HEADER: &str = "x-auth-token";
/// The header that one comes in.
const ISSUED: &str = "x-subject-token";

/// A user, or an application credential, of a Keystone.
#[derive(Debug)]
pub(super) struct Keystone {
    /// Where tokens are: `…/v3/auth/tokens?nocatalog`
    pub tokens_url: Url,
    pub identity: Identity,
    pub secret_file: PathBuf,
    /// What a token is good for; none: the user's default project, or what the application credential is for.
    pub scope: Option<Scope>,
    pub kept: Kept,
}

/// Something that has a number, or a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Named {
    Id(String),
    Name(String),
}

/// Something that has a number, or a name in a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct InDomain {
    #[serde(flatten)]
    pub named: Named,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Named>,
}

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    Project(InDomain),
    Domain(Named),
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// With a password.
    User(InDomain),
    /// With its secret. One that has a name has it with its user.
    ApplicationCredential(Named, Option<InDomain>),
}

/// The body of the request for a token.
#[derive(Serialize)]
struct Asked<'a> {
    auth: Auth<'a>,
}

#[derive(Serialize)]
struct Auth<'a> {
    identity: Proof<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a Scope>,
}

#[derive(Default, Serialize)]
struct Proof<'a> {
    methods: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<Password<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application_credential: Option<ApplicationCredential<'a>>,
}

#[derive(Serialize)]
struct Password<'a> {
    user: UserWithPassword<'a>,
}

#[derive(Serialize)]
struct UserWithPassword<'a> {
    #[serde(flatten)]
    user: &'a InDomain,
    password: &'a str,
}

#[derive(Serialize)]
struct ApplicationCredential<'a> {
    #[serde(flatten)]
    named: &'a Named,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a InDomain>,
    secret: &'a str,
}

impl Keystone {
    /// A token, and what else must not come back.
    pub(super) async fn token(&self, http: &Http) -> Result<(Secret, Vec<Secret>), Failure> {
        self.kept.token(self.shown(), self.new_token(http)).await
    }

    fn shown(&self) -> String {
        let name = |named: &Named| match named {
            Named::Id(text) | Named::Name(text) => text.clone(),
        };
        match &self.identity {
            Identity::User(user) => format!("user {}", name(&user.named)),
            Identity::ApplicationCredential(named, _) => format!("application credential {}", name(named)),
        }
    }

    async fn new_token(&self, http: &Http) -> Result<(Token, Vec<Secret>), Failure> {
        let secret = read(&self.secret_file)?;
        let failed = |reason: String| Failure::Credentials(format!("{}: {reason}", self.shown()));
        let body = self.body(&secret).map_err(|error| failed(error.to_string()))?;
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let question = Question { method: Method::POST, url: self.tokens_url.clone(), headers, body };
        let asked = Instant::now();
        let reply = question.ask_patiently(http, is_passing).await;
        let reply = reply.map_err(|error| failed(error.to_string()))?;
        let secrets = vec![secret];
        let token = if reply.status == 201 { issued(&reply, asked) } else { None };
        token.map(|token| (token, secrets.clone())).ok_or_else(|| {
            failed(format!("{} answers: {}", self.tokens_url.shown(), refusal(&reply, &secrets)))
        })
    }

    /// The request's body, of which nothing is left behind in memory.
    fn body(&self, secret: &Secret) -> serde_json::Result<Zeroizing<Vec<u8>>> {
        let secret = secret.reveal().as_str();
        let identity = match &self.identity {
            Identity::User(user) => Proof {
                methods: ["password"],
                password: Some(Password { user: UserWithPassword { user, password: secret } }),
                ..Proof::default()
            },
            Identity::ApplicationCredential(named, user) => Proof {
                methods: ["application_credential"],
                application_credential: Some(ApplicationCredential { named, user: user.as_ref(), secret }),
                ..Proof::default()
            },
        };
        let asked = Asked { auth: Auth { identity, scope: self.scope.as_ref() } };
        // Room for a secret all of whose letters are escaped: what grows is moved, and leaves a copy.
        let mut body = Zeroizing::new(Vec::with_capacity(8192 + 6 * secret.len()));
        serde_json::to_writer(&mut *body, &asked)?;
        Ok(body)
    }
}

/// The token of an answer. How long it is good for is the time between two moments of the service's own clock.
fn issued(reply: &Reply, asked: Instant) -> Option<Token> {
    #[derive(Deserialize)]
    struct Answer {
        token: Times,
    }
    #[derive(Deserialize)]
    struct Times {
        issued_at: Option<String>,
        expires_at: String,
    }
    let text = Secret::new(reply.headers.get(ISSUED)?.to_str().ok()?.to_owned());
    let Answer { token: Times { issued_at, expires_at } } = serde_json::from_slice(&reply.body).ok()?;
    let issued = match issued_at {
        Some(text) => moment(&text)?,
        None => Timestamp::now(),
    };
    Token::new(text, Some(moment(&expires_at)?.since(issued)?.as_secs()), asked)
}

/// `2026-11-30T06:00:00.000000Z`
fn moment(text: &str) -> Option<Timestamp> {
    let whole = text.split_once('.').map_or(text.to_owned(), |(whole, _)| format!("{whole}Z"));
    whole.parse().ok()
}

/// Why there is no token, in the service's own words.
fn refusal(reply: &Reply, secrets: &[Secret]) -> String {
    #[derive(Deserialize)]
    struct Answer {
        error: Refusal,
    }
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(default)]
        title: String,
        #[serde(default)]
        message: String,
    }
    let status = reply.status;
    let said = match serde_json::from_slice(&reply.body) {
        Ok(Answer { error: Refusal { title, message } }) => format!("{status} {title}: {message}"),
        Err(_) => format!("status {status}, and no token"),
    };
    redact(&said, secrets).chars().filter(|letter| !letter.is_control()).take(300).collect()
}
