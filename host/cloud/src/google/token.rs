//! Access tokens: what they are for, and how they are read out of answers.

use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::Secret;

/// A token is used until so much of its time is left. The metadata service has a new one from 5 minutes before on, as Google's own
/// libraries count on.
const SPARE: Duration = Duration::from_secs(225);
/// The shortest and the longest that a token is believed to be good for.
const LIFETIMES: (u64, u64) = (1, 86_400);
/// Characters of the longest token.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// What a token is to be for: no more than the service needs. Which calls are allowed is up to IAM.
pub(super) fn scope(service: &str) -> &'static str {
    match service {
        "compute" => "https://www.googleapis.com/auth/compute",
        _ => "https://www.googleapis.com/auth/cloud-platform",
    }
}

/// An access token.
#[derive(Clone)]
pub(super) struct Token {
    /// What goes into the header.
    pub(super) text: Secret,
    /// From now on there may be another one.
    stale: Instant,
    /// From now on it is good for nothing.
    over: Instant,
}

/// As token endpoints and the metadata service write it.
#[derive(Deserialize)]
struct Written {
    access_token: String,
    expires_in: u64,
    token_type: String,
}

impl Token {
    /// Reads an answer to a request that was sent at some moment. None: it has no token.
    pub(super) fn read(body: &[u8], asked: Instant) -> Option<Self> {
        let Written { access_token, expires_in, token_type } = serde_json::from_slice(body).ok()?;
        let text = Secret::new(access_token);
        let (shortest, longest) = LIFETIMES;
        let is_text = text.reveal().bytes().all(|byte| byte.is_ascii_graphic()) && !text.reveal().is_empty();
        if !is_text || text.reveal().len() > MAX_TOKEN_BYTES || !token_type.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let lifetime = Duration::from_secs(expires_in.clamp(shortest, longest));
        // One that is short anyway is used for half of its time.
        let fresh = lifetime.saturating_sub(SPARE).max(lifetime / 2);
        Some(Self { text, stale: asked + fresh, over: asked + lifetime })
    }

    /// Whether it is far from its end.
    pub(super) fn is_fresh(&self) -> bool {
        Instant::now() < self.stale
    }

    /// Whether it is good at all.
    pub(super) fn is_good(&self) -> bool {
        Instant::now() < self.over
    }
}
