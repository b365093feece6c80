//! What is secret in a `Backend` section. It is nobody's but the nodes': others are told a digest of it, by which who has the same one
//! knows it again.

use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::canonical::{canonical, string};
use crate::network_config::fields;

/// WireGuard's preshared key; as the others, in lower case.
pub const PRESHARED_KEY: &str = "psk";
/// One half of a cloud's access key.
pub const ACCESS_KEY_ID: &str = "accesskeyid";
/// The other one.
pub const ACCESS_KEY_SECRET: &str = "accesskeysecret";

/// What a digest begins with. No key of WireGuard's or a cloud's begins so.
const DIGEST: &str = "sha256:";

/// A digest whose secret is not known here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its {option} is not known here, and is not that of the network config")]
pub struct UnknownSecret {
    /// The option.
    option: String,
}

/// Whether an option of this name is secret, in any case of its letters.
pub fn is_secret(option: &str) -> bool {
    [PRESHARED_KEY, ACCESS_KEY_ID, ACCESS_KEY_SECRET].iter().any(|secret| option.eq_ignore_ascii_case(secret))
}

/// A `Backend` section in its canonical form, with a digest in the place of each secret. What has digests already stays as it is.
pub fn digested(section: &str) -> String {
    let section = canonical(section);
    let Ok(options) = fields(&section) else { return section };
    object(options.iter().map(|(name, value)| {
        let digest = is_secret(name).then(|| digest(value)).flatten();
        (name.as_str(), digest.map_or_else(|| value.get().to_owned(), |digest| string(&digest)))
    }))
}

/// An option that has a digest in the place of its secret, if there is one.
pub fn option_with_digest(section: &str) -> Option<String> {
    let options = fields(section).ok()?;
    options.into_iter().find(|(name, value)| is_secret(name) && is_digest(value)).map(|(name, _)| name)
}

/// A section with its secrets in the place of their digests. They are taken from `known` sections: from the same option of the same type, since
/// whose section this is may have meant another use of it.
pub fn restored(section: &str, known: &[&str]) -> Result<String, UnknownSecret> {
    let section = canonical(section);
    let Ok(options) = fields(&section) else { return Ok(section) };
    let known = known.iter().map(|known| fields(&canonical(known)).unwrap_or_default());
    let known: Vec<_> = known.filter(|known| backend_type(known) == backend_type(&options)).collect();
    let mut written = Vec::with_capacity(options.len());
    for (name, value) in &options {
        if !(is_secret(name) && is_digest(value)) {
            written.push((name.as_str(), value.get().to_owned()));
            continue;
        }
        let wanted = text(value);
        let mut same = known.iter().flatten().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let secret = same.find(|(_, secret)| !is_digest(secret) && digest(secret) == wanted);
        let (_, secret) = secret.ok_or_else(|| UnknownSecret { option: name.clone() })?;
        written.push((name, secret.get().to_owned()));
    }
    Ok(object(written.into_iter()))
}

/// The digest of an option's value; of a digest it is the same. None: nothing is there.
fn digest(value: &RawValue) -> Option<String> {
    match text(value) {
        Some(text) if text.is_empty() => None,
        Some(text) if text.starts_with(DIGEST) => Some(text),
        Some(text) => Some(digest_of(&text)),
        None if value.get() == "null" => None,
        // It is no secret that anybody takes; it may have been meant for one.
        None => Some(digest_of(value.get())),
    }
}

fn digest_of(secret: &str) -> String {
    format!("{DIGEST}{}", hex::encode(Sha256::digest(secret)))
}

fn is_digest(value: &RawValue) -> bool {
    text(value).is_some_and(|text| text.starts_with(DIGEST))
}

fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// The type, as it stands in a canonical section.
fn backend_type(options: &[(String, Box<RawValue>)]) -> Option<&str> {
    options.iter().find(|(name, _)| name == "Type").map(|(_, value)| value.get())
}

fn object<'n>(options: impl Iterator<Item = (&'n str, String)>) -> String {
    let options: Vec<String> = options.map(|(name, value)| format!("{}:{value}", string(name))).collect();
    format!("{{{}}}", options.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    /// What `sha256sum` says of it.
    const ITS_DIGEST: &str = "sha256:c20e65119435d188564d9eb736e3bd37fac49ba17b11971d80e251bc43129524";

    fn wireguard(psk: &str) -> String {
        format!(r#"{{"ListenPort":51820,"PSK":"{psk}","Type":"wireguard"}}"#)
    }

    #[test]
    fn a_secret_has_its_digest_in_its_place_and_nothing_else_changes() {
        let written = format!("{{ \"Type\": \"WireGuard\", \"PSK\": \"{KEY}\", \"ListenPort\": 51820 }}");
        assert_eq!(digested(&written), wireguard(ITS_DIGEST));
        assert_eq!(digested(&digested(&written)), digested(&written), "who reads it says the same");
        let cloud = digested(r#"{"Type":"ali-vpc","accessKeyID":"made-up-id","ACCESSKEYSECRET":"made-up"}"#);
        assert!(!cloud.contains("made-up") && cloud.matches(DIGEST).count() == 2, "{cloud}");
        for text in [r#"{"PSK":"","Type":"wireguard"}"#, r#"{"AccessKeyID":null,"Type":"x"}"#, "rubbish", "7"]
        {
            assert_eq!(digested(text), text);
        }
        // Of what was meant to be one nobody is told, either.
        let number = digested(r#"{"PSK":123456,"Type":"wireguard"}"#);
        assert!(!number.contains("123456") && number.contains(DIGEST), "{number}");
    }

    #[test]
    fn the_same_secret_is_the_same_generation_and_another_one_is_not() {
        let other = KEY.replace("dwd", "awd");
        assert_eq!(
            digested(&wireguard(KEY)),
            digested(&wireguard(KEY).replace("PSK\":\"d", "PSK\":\"\\u0064"))
        );
        assert_ne!(digested(&wireguard(KEY)), digested(&wireguard(&other)));
    }

    #[test]
    fn a_section_is_restored_from_one_with_the_same_secret() {
        let known = wireguard(KEY).replace("51820", "51900").replace("PSK", "psk");
        assert_eq!(restored(&wireguard(ITS_DIGEST), &[r#"{"Type":"vxlan"}"#, &known]), Ok(wireguard(KEY)));
        let vxlan = r#"{"Type":"vxlan","VNI":7}"#;
        assert_eq!(restored(vxlan, &[]).as_deref(), Ok(vxlan));
    }

    #[test]
    fn a_digest_is_never_taken_for_a_secret() {
        let (wanted, other) = (wireguard(ITS_DIGEST), wireguard(&KEY.replace("dwd", "awd")));
        let malformed = wireguard("sha256:rubbish");
        for known in [&wanted, &other, &malformed] {
            let error = restored(&wanted, &[known]).expect_err("not known").to_string();
            assert!(error.contains("PSK") && !error.contains(DIGEST), "{error}");
            restored(&malformed, &[known]).expect_err("nothing has this digest");
        }
        assert_eq!(option_with_digest(&wanted).as_deref(), Some("PSK"));
        assert_eq!(option_with_digest(&malformed).as_deref(), Some("PSK"));
        assert_eq!(option_with_digest(&other), None);
    }

    /// Whoever writes leases could have it sent to where it is none.
    #[test]
    fn a_secret_serves_the_option_and_the_type_alone_that_it_is_for() {
        let known = r#"{"Type":"ali-vpc","AccessKeyID":"id","AccessKeySecret":"secret"}"#;
        let secret = digest_of("secret");
        for (option, backend, is_its) in [
            ("AccessKeySecret", "ali-vpc", true),
            ("AccessKeyID", "ali-vpc", false),
            ("AccessKeySecret", "tencent-vpc", false),
        ] {
            let section = format!(r#"{{"{option}":"{secret}","Type":"{backend}"}}"#);
            assert_eq!(restored(&section, &[known]).is_ok(), is_its, "{section}");
        }
    }
}
