//! Access keys, sessions of the RAM role, and what they may do.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::ACCESS_KEY;
use super::fault::Error;

/// How far a caller's clock may be off.
const SKEW: i64 = 15 * 60;

/// The account whose cloud it is.
#[derive(Debug)]
pub(super) struct Account {
    sessions: Vec<Session>,
    denied: BTreeSet<String>,
    nonces: BTreeSet<String>,
    counter: u64,
    /// How long sessions that begin from now on last.
    pub session_time: Duration,
}

#[derive(Clone, Debug)]
struct Session {
    key: String,
    secret: String,
    token: String,
    begin: SystemTime,
    end: SystemTime,
}

impl Account {
    pub fn new() -> Self {
        let session_time = Duration::from_hours(6);
        Self {
            sessions: Vec::new(),
            denied: BTreeSet::new(),
            nonces: BTreeSet::new(),
            counter: 0,
            session_time,
        }
    }

    /// A text that has not been there before.
    pub fn token(&mut self, prefix: &str) -> String {
        self.counter += 1;
        let digest = Sha256::digest(format!("{prefix}{}", self.counter));
        let hex = super::signature::hex(&digest[..16]).to_ascii_uppercase();
        let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        format!("{prefix}{a}-{b}-{c}-{d}-{e}")
    }

    pub fn permit(&mut self, action: &str, allowed: bool) {
        if allowed {
            self.denied.remove(action);
        } else {
            self.denied.insert(action.to_owned());
        }
    }

    pub fn expire_sessions(&mut self) {
        let now = SystemTime::now();
        self.sessions.iter_mut().for_each(|session| session.end = session.end.min(now));
    }

    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    pub fn secrets(&self) -> Vec<String> {
        let of_sessions = self.sessions.iter().flat_map(|session| [&session.secret, &session.token]).cloned();
        of_sessions.chain([ACCESS_KEY.1.to_owned()]).collect()
    }

    /// What metadata says of the role's session, which is made anew when it is over.
    pub fn session(&mut self) -> Value {
        let now = SystemTime::now();
        if self.sessions.last().is_none_or(|session| session.end <= now) {
            let session = Session {
                key: self.token("STS."),
                secret: self.token("made-up-secret-"),
                token: self.token("made-up-token-"),
                begin: now,
                end: now + self.session_time,
            };
            self.sessions.push(session);
        }
        let session = &self.sessions[self.sessions.len() - 1];
        json!({
            "AccessKeyId": session.key,
            "AccessKeySecret": session.secret,
            "Expiration": shown(session.end),
            "SecurityToken": session.token,
            "LastUpdated": shown(session.begin),
            "Code": "Success",
        })
    }

    /// The secret of an access key. The token belongs to keys of sessions.
    pub fn secret(&self, key: &str, token: Option<&str>) -> Result<String, Error> {
        if key == ACCESS_KEY.0 {
            return Ok(ACCESS_KEY.1.to_owned());
        }
        let unknown = || Error::new(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.");
        let session = self.sessions.iter().find(|session| session.key == key).ok_or_else(unknown)?;
        let text = "The specified parameter \"SecurityToken\" is not valid.";
        if token != Some(&session.token) {
            return Err(Error::new(400, "InvalidSecurityToken.Malformed", text));
        }
        if session.end <= SystemTime::now() {
            let text = "Specified SecurityToken is expired.";
            return Err(Error::new(400, "InvalidSecurityToken.Expired", text));
        }
        Ok(session.secret.clone())
    }

    /// Checks what is there against requests that come again.
    pub fn is_new(&mut self, nonce: &str, date: &str) -> Result<(), Error> {
        let date = OffsetDateTime::parse(date, &Rfc3339).map_err(|_| {
            let text = "The specified date is not well formatted.";
            Error::new(400, "InvalidTimeStamp.Format", text)
        })?;
        if (OffsetDateTime::now_utc() - date).whole_seconds().abs() > SKEW {
            let text = "Specified time stamp or date value is expired.";
            return Err(Error::new(400, "InvalidTimeStamp.Expired", text));
        }
        if nonce.is_empty() || !self.nonces.insert(nonce.to_owned()) {
            let text = "Specified signature nonce was used already.";
            return Err(Error::new(400, "SignatureNonceUsed", text));
        }
        Ok(())
    }

    /// Whether the caller may do it: the role, that is; the user may do everything.
    pub fn may(&self, key: &str, action: &str) -> Result<(), Error> {
        let is_denied = key != ACCESS_KEY.0 && self.denied.contains(action);
        if is_denied { Err(Error::denied(action)) } else { Ok(()) }
    }
}

fn shown(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let time =
        i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}
