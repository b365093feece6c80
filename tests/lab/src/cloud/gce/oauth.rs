//! The token endpoint: takes assertions that a service account has signed (RFC 7523), and refresh tokens.

use std::time::SystemTime;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::rsa::KeyPair;
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};

use super::super::server::{Question, Reply};
use super::moment;
use super::tokens::Tokens;

/// The key of the lab's service account. No account anywhere else has it.
const KEY: &str = include_str!("../../../../fixtures/google/service-account-key.pem");
const KEY_ID: &str = "0123456789abcdef0123456789abcdef01234567";
/// The lab's service account with a key.
pub const ACCOUNT: &str = "flannel-file@lab-project.iam.gserviceaccount.com";
/// What the lab's user has.
const USER: [(&str, &str); 3] = [
    ("client_id", "made-up.apps.googleusercontent.com"),
    ("client_secret", "made-up-client-secret"),
    ("refresh_token", "1//made-up-refresh-token"),
];
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// For whom assertions are by Google's own documentation, wherever they are sent. The other one is the file's `token_uri`.
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";
/// Seconds that an assertion may be good for, and that clocks may differ.
const LONGEST: u64 = 3_600;
const SKEW: u64 = 300;

/// The PEM block of the key alone.
fn key() -> &'static str {
    KEY.find("-----BEGIN").map_or(KEY, |begin| &KEY[begin..])
}

/// The file of the service account's key, for a token endpoint.
pub(super) fn service_account(token_uri: &str) -> Value {
    json!({
        "type": "service_account",
        "project_id": super::PROJECT,
        "private_key_id": KEY_ID,
        "private_key": key(),
        "client_email": ACCOUNT,
        "client_id": "100000000000000000001",
        "token_uri": token_uri,
    })
}

/// The file of a user's credentials.
pub(super) fn user(token_uri: &str) -> Value {
    let mut file = json!({ "type": "authorized_user", "token_uri": token_uri });
    for (name, value) in USER {
        file[name] = value.into();
    }
    file
}

/// Answers whoever wants a token.
pub(super) fn answer(tokens: &mut Tokens, question: &Question, token_uri: &str) -> Reply {
    let form = Question::parameters(&String::from_utf8_lossy(&question.body));
    let value =
        |name: &str| form.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str());
    let granted = match value("grant_type") {
        JWT_BEARER => assertion(value("assertion"), token_uri),
        "refresh_token" if USER.iter().all(|(name, right)| value(name) == *right) => {
            Ok(("user@example.com".to_owned(), "https://www.googleapis.com/auth/cloud-platform".to_owned()))
        }
        "refresh_token" => Err(("invalid_grant", "Bad Request".to_owned())),
        other => Err(("unsupported_grant_type", format!("Invalid grant_type: {other}"))),
    };
    match granted {
        Ok((account, scope)) => {
            let scopes: Vec<&str> = scope.split(' ').collect();
            let (token, seconds) = tokens.issue(&account, &scopes);
            let body = json!({ "access_token": token, "expires_in": seconds, "token_type": "Bearer" });
            super::answer(200, &body)
        }
        Err((error, description)) => {
            super::answer(400, &json!({ "error": error, "error_description": description }))
        }
    }
}

/// Whom an assertion speaks for, and for what. The error: OAuth's code, and a text.
fn assertion(text: &str, token_uri: &str) -> Result<(String, String), (&'static str, String)> {
    let refused = |reason: &str| ("invalid_grant", reason.to_owned());
    let Some((signed, signature)) = text.rsplit_once('.') else {
        return Err(refused("Bad Request"));
    };
    let part = |index: usize| -> Value {
        let bytes = signed.split('.').nth(index).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    };
    let (header, claims) = (part(0), part(1));
    if claims["iss"] != ACCOUNT {
        return Err(refused("Invalid grant: account not found"));
    }
    let is_right = header["alg"] == "RS256" && header["typ"] == "JWT" && header["kid"] == KEY_ID;
    if !is_right || !is_signed(signed, signature).unwrap_or(false) {
        return Err(refused("Invalid JWT Signature."));
    }
    if claims["aud"] != token_uri && claims["aud"] != AUDIENCE {
        return Err(refused("Invalid JWT: Failed audience check."));
    }
    let (begin, end) = (claims["iat"].as_u64().unwrap_or(0), claims["exp"].as_u64().unwrap_or(0));
    let now = moment::unix(SystemTime::now());
    if begin > now + SKEW || end + SKEW < now || end <= begin || end - begin > LONGEST {
        let reason = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat \
                      and exp values in the JWT claim.";
        return Err(refused(reason));
    }
    let scope = claims["scope"].as_str().unwrap_or_default();
    if !scope.split(' ').all(|scope| scope.starts_with("https://www.googleapis.com/auth/")) {
        return Err(("invalid_scope", "Invalid OAuth scope or ID token audience provided.".to_owned()));
    }
    Ok((ACCOUNT.to_owned(), scope.to_owned()))
}

fn pair() -> Result<KeyPair> {
    let inside: String = key().lines().filter(|line| !line.starts_with("-----")).collect();
    KeyPair::from_pkcs8(&BASE64_STANDARD.decode(inside)?).ok().context("the lab's key")
}

fn is_signed(signed: &str, signature: &str) -> Result<bool> {
    let pair = pair()?;
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
    Ok(public.verify(signed.as_bytes(), &BASE64_URL_SAFE_NO_PAD.decode(signature)?).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "http://192.168.77.1/token";

    fn signed(change: impl FnOnce(&mut Value)) -> String {
        let now = moment::unix(SystemTime::now());
        let scope = "https://www.googleapis.com/auth/compute";
        let mut claims =
            json!({ "iss": ACCOUNT, "scope": scope, "aud": HERE, "iat": now, "exp": now + 3_600 });
        change(&mut claims);
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": KEY_ID });
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&header), part(&claims));
        let pair = pair().expect("a key");
        let mut signature = vec![0; pair.public().modulus_len()];
        let random = ring::rand::SystemRandom::new();
        pair.sign(&ring::signature::RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature)
            .expect("signed");
        format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    fn refusal(assertion_text: &str) -> String {
        assertion(assertion_text, HERE).expect_err("refused").1
    }

    #[test]
    fn an_assertion_that_is_right_speaks_for_its_account() {
        let scope = "https://www.googleapis.com/auth/compute".to_owned();
        assert_eq!(assertion(&signed(|_| ()), HERE), Ok((ACCOUNT.to_owned(), scope)));
        let elsewhere = signed(|claims| claims["aud"] = AUDIENCE.into());
        assert!(assertion(&elsewhere, HERE).is_ok());
    }

    #[test]
    fn an_assertion_of_somebody_else_for_somebody_else_or_for_too_long_is_refused() {
        let stranger = signed(|claims| claims["iss"] = "stranger@example.com".into());
        assert_eq!(refusal(&stranger), "Invalid grant: account not found");
        let audience = signed(|claims| claims["aud"] = "https://example.com/token".into());
        assert_eq!(refusal(&audience), "Invalid JWT: Failed audience check.");
        let now = moment::unix(SystemTime::now());
        for (begin, end) in
            [(now, now + 3_601), (now - 7_200, now - 3_600), (now + 600, now + 700), (now, now)]
        {
            let wrong = signed(|claims| (claims["iat"], claims["exp"]) = (begin.into(), end.into()));
            assert!(refusal(&wrong).contains("short-lived"), "{begin} to {end}");
        }
        let scope = signed(|claims| claims["scope"] = "compute".into());
        assert!(refusal(&scope).contains("scope"));
    }

    #[test]
    fn an_assertion_that_was_changed_is_refused() {
        let (right, other) = (signed(|_| ()), signed(|claims| claims["exp"] = 1.into()));
        let (claims, _) = right.rsplit_once('.').expect("parts");
        let (_, signature) = other.rsplit_once('.').expect("parts");
        assert_eq!(refusal(&format!("{claims}.{signature}")), "Invalid JWT Signature.");
    }
}
