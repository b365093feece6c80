//! What in a backend's options is secret: the host keeps it, and the plugin is told only that it is there.

use flannel_model::ipsec::Psk;
use flannel_model::secrets::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, PRESHARED_KEY, is_secret};
use flannel_model::wireguard::SecretKey;
use serde_json::{Map, Value};

/// What stands in their place.
const PLACEHOLDER: &str = "(held by the host)";
/// Characters that IPsec's preshared key has at least, as with upstream.
const LEAST_PSK: usize = 96;

/// The secrets of a backend's options.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// WireGuard's preshared key, `PSK`.
    pub preshared: Option<SecretKey>,
    /// What all nodes with IPsec have in common, `PSK`.
    pub psk: Option<Psk>,
    /// A cloud's access key: `AccessKeyID` and `AccessKeySecret`.
    pub access_key: Option<(String, flannel_cloud::Secret)>,
}

/// Takes the secrets out of a `Backend` object. The error names the option, and not its value.
pub fn extract_secrets(backend_type: &str, config: &str) -> Result<(String, Secrets), String> {
    let Ok(options) = serde_json::from_str::<Map<String, Value>>(config) else {
        // The policy says what is wrong with it.
        return Ok((config.to_owned(), Secrets::default()));
    };
    let mut secrets = Secrets::default();
    let mut withheld = false;
    let (mut key_id, mut key_secret) = (None, None);
    let options: Map<String, Value> = options
        .into_iter()
        .map(|(name, value)| {
            if value.is_null() || !is_secret(&name) {
                return Ok((name, value));
            }
            withheld = true;
            let text = value.as_str().unwrap_or_default();
            let kept = match name.to_ascii_lowercase().as_str() {
                ACCESS_KEY_ID => Some(&mut key_id),
                ACCESS_KEY_SECRET => Some(&mut key_secret),
                _ => None,
            };
            if let Some(kept) = kept {
                if !value.is_string() {
                    return Err(format!("Backend.{name} is not a text"));
                }
                *kept = (!text.is_empty()).then(|| text.to_owned());
            }
            // An empty one is none, as upstream has it.
            if backend_type == "wireguard" && value.as_str() != Some("") {
                secrets.preshared = Some(text.parse().map_err(|error| format!("Backend.{name} is {error}"))?);
            }
            if backend_type == "ipsec" && name.eq_ignore_ascii_case(PRESHARED_KEY) {
                secrets.psk = Some(checked_psk(&name, &value)?);
            }
            Ok((name, PLACEHOLDER.into()))
        })
        .collect::<Result<_, String>>()?;
    secrets.access_key = match (key_id, key_secret) {
        (Some(id), Some(secret)) => Some((id, flannel_cloud::Secret::new(secret))),
        (None, None) => None,
        (Some(_), None) => {
            return Err("Backend.AccessKeyID is there without Backend.AccessKeySecret".to_owned());
        }
        (None, Some(_)) => {
            return Err("Backend.AccessKeySecret is there without Backend.AccessKeyID".to_owned());
        }
    };
    // As it was written, where nothing had to be taken out.
    let config = if withheld { Value::Object(options).to_string() } else { config.to_owned() };
    Ok((config, secrets))
}

/// IPsec's preshared key: as long as upstream asks for, too.
fn checked_psk(name: &str, value: &Value) -> Result<Psk, String> {
    let Some(text) = value.as_str() else { return Err(format!("Backend.{name} is not a text")) };
    let length = text.chars().count();
    if length < LEAST_PSK {
        return Err(format!(
            "Backend.{name} has {length} characters: at least {LEAST_PSK}, as `head -c 48 /dev/urandom | xxd -p -c 48` prints them"
        ));
    }
    Ok(Psk::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";

    #[test]
    fn a_preshared_key_stays_with_the_host() {
        let config = format!(r#"{{"Type":"wireguard","psk":"{KEY}","ListenPort":51820}}"#);
        let (shown, secrets) = extract_secrets("wireguard", &config).expect("a key");
        assert!(secrets.preshared.is_some());
        assert!(
            !shown.contains(KEY) && shown.contains("51820") && shown.contains("held by the host"),
            "{shown}"
        );
    }

    #[test]
    fn what_has_no_secrets_stays_as_it_was_written() {
        for config in [r#"{ "Type" : "vxlan" }"#, "rubbish"] {
            assert_eq!(extract_secrets("vxlan", config).expect("nothing to check").0, config);
        }
    }

    #[test]
    fn a_clouds_access_key_stays_with_the_host() {
        let config = r#"{"Type":"ali-vpc","AccessKeyID":"made-up-id","accessKeySecret":"made-up-secret"}"#;
        let (shown, secrets) = extract_secrets("ali-vpc", config).expect("a key");
        let (id, secret) = secrets.access_key.expect("both halves");
        assert_eq!((id.as_str(), secret.reveal().as_str()), ("made-up-id", "made-up-secret"));
        assert!(!shown.contains("made-up") && !format!("{secret:?}").contains("made-up"), "{shown}");
        let (shown, secrets) =
            extract_secrets("tencent-vpc", &config.replace("ali-vpc", "tencent-vpc")).expect("a key");
        assert!(secrets.access_key.is_some() && !shown.contains("made-up"), "{shown}");
        let error =
            extract_secrets("ali-vpc", r#"{"AccessKeySecret":"made-up-secret"}"#).expect_err("a half");
        assert!(error.contains("without Backend.AccessKeyID") && !error.contains("made-up"), "{error}");
    }

    #[test]
    fn ipsecs_preshared_key_stays_with_the_host() {
        let psk = "made-up-".repeat(12);
        let (shown, secrets) =
            extract_secrets("ipsec", &format!(r#"{{"Type":"ipsec","PSK":"{psk}"}}"#)).expect("a key");
        assert_eq!(secrets.psk.expect("a key").reveal(), &psk);
        assert!(!shown.contains("made-up"), "{shown}");
        for wrong in ["7".to_owned(), "\"\"".to_owned(), format!("{:?}", "made-up-".repeat(11))] {
            let error = extract_secrets("ipsec", &format!(r#"{{"PSK":{wrong}}}"#)).expect_err("no key");
            assert!(error.contains("Backend.PSK") && !error.contains("made-up"), "{error}");
        }
    }

    #[test]
    fn a_wrong_key_is_refused_by_name() {
        for wrong in [r#""c2VjcmV0""#, "7"] {
            let error = extract_secrets("wireguard", &format!(r#"{{"PSK":{wrong}}}"#)).expect_err("no key");
            assert!(error.contains("Backend.PSK") && !error.contains("c2VjcmV0"), "{error}");
        }
    }
}
