//! The file that Amazon's tools share: `~/.aws/credentials`. Of its profiles only keys are read: none that assumes a role, starts a
//! program, or signs in.

use std::path::PathBuf;

use flannel_privileges::with_privileges;

use crate::Secret;
use crate::access_key::AccessKey;
use crate::options::Variables;
use crate::request::Failure;

const FILE: &str = "AWS_SHARED_CREDENTIALS_FILE";
const PROFILE: [&str; 2] = ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"];
/// Bytes of the largest file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The profile's keys. None, and where was looked: there are none, and nobody has asked for them.
pub(super) fn keys(variables: &Variables) -> Result<Result<AccessKey, String>, Failure> {
    let named = PROFILE.iter().find_map(|name| variables.get(name));
    let is_asked_for = named.is_some() || variables.get(FILE).is_some();
    let profile = named.unwrap_or_else(|| "default".to_owned());
    let file = variables.get(FILE).map(PathBuf::from);
    let usual = || variables.get("HOME").map(|home| PathBuf::from(home).join(".aws/credentials"));
    let Some(file) = file.or_else(usual) else {
        return Ok(Err("there is no home directory".to_owned()));
    };
    let missing = |reason: String| {
        let text = format!("{}: {reason}", file.display());
        if is_asked_for { Err(Failure::Credentials(text)) } else { Ok(Err(text)) }
    };
    let is_too_large = std::fs::metadata(&file).is_ok_and(|meta| meta.len() > MAX_FILE_BYTES);
    if is_too_large {
        return missing("is too large".to_owned());
    }
    let text = match with_privileges(|| std::fs::read_to_string(&file)) {
        Ok(text) => Secret::new(text),
        Err(error) => return missing(error.to_string()),
    };
    match find(text.reveal(), &profile) {
        Some(keys) => Ok(Ok(keys)),
        None => missing(format!(
            "the profile {profile:?} has no aws_access_key_id and aws_secret_access_key, or is not there"
        )),
    }
}

/// The keys of a profile in the text of such a file.
pub(super) fn find(text: &str, profile: &str) -> Option<AccessKey> {
    let (mut is_here, mut id, mut secret, mut token) = (false, None, None, None);
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            is_here = name.trim() == profile;
            continue;
        }
        // Lines that are indented belong to a setting above them, which is none of these.
        if !is_here || line.starts_with([' ', '\t']) || trimmed.starts_with(['#', ';']) {
            continue;
        }
        let Some((name, value)) = trimmed.split_once('=') else { continue };
        let value = value.trim().to_owned();
        match name.trim().to_ascii_lowercase().as_str() {
            "aws_access_key_id" => id = Some(value),
            "aws_secret_access_key" => secret = Some(Secret::new(value)),
            "aws_session_token" | "aws_security_token" => token = Some(Secret::new(value)),
            _ => {}
        }
    }
    AccessKey { id: id?, secret: secret?, token, expires: None }.checked()
}

#[cfg(test)]
mod tests {
    use super::find;

    const TEXT: &str = "# a file\n[default]\naws_access_key_id = AKIDEFAULT\naws_secret_access_key=made=up\n\n\
        [ other ]\nAWS_ACCESS_KEY_ID=AKIOTHER\n; no\naws_secret_access_key = made-up\naws_session_token = token\n\
        s3 =\n  aws_secret_access_key = nested\n[half]\naws_access_key_id = AKIHALF\n";

    #[test]
    fn each_profile_has_its_own_keys() {
        let read = |profile| {
            let keys = find(TEXT, profile)?;
            let token = keys.token.map(|token| token.reveal().to_owned());
            Some((keys.id, keys.secret.reveal().to_owned(), token))
        };
        assert_eq!(read("default"), Some(("AKIDEFAULT".to_owned(), "made=up".to_owned(), None)));
        let other = ("AKIOTHER".to_owned(), "made-up".to_owned(), Some("token".to_owned()));
        assert_eq!(read("other"), Some(other));
        assert_eq!(read("half"), None);
        assert_eq!(read("none"), None);
    }
}
