//! `Backend` sections for people: secrets in them are not shown.

use flannel_model::canonical::canonical;
use flannel_model::config_change::{self, Difference};
use flannel_model::network_config::{NetworkConfig, fields};
use flannel_plugin_host::extract_secrets;

/// A `Backend` section in canonical form, with a placeholder for each secret, as the daemon tells of it. None if its secrets are wrong.
pub(super) fn without_secrets(backend: &str) -> Option<String> {
    let whole = NetworkConfig::parse(&format!(r#"{{"Network":"10.0.0.0/8","Backend":{backend}}}"#)).ok()?;
    extract_secrets(&whole.backend_type, backend).ok().map(|(shown, _)| canonical(&shown))
}

/// What a daemon tells of its `Backend` section, with placeholders whether it has put them there or not.
pub(super) fn told(backend: &str) -> String {
    without_secrets(backend).unwrap_or_else(|| backend.to_owned())
}

/// What differs between two `Backend` sections in canonical form. Of a secret it is told only that it is another one. `is_shown`: the first has
/// placeholders for its secrets, of which nothing can be said then.
pub(super) fn differences(before: &str, after: &str, is_shown: bool) -> Vec<Difference> {
    let shown = without_secrets(after);
    let mut found = match &shown {
        Some(shown) if is_shown => return config_change::options(before, shown),
        _ => config_change::options(before, after),
    };
    let (of_before, of_after) = (without_secrets(before), shown);
    for Difference { field, from, to } in &mut found {
        for (value, shown) in [(from, &of_before), (to, &of_after)] {
            if value.is_some() && !has(shown.as_deref(), field, value.as_deref()) {
                *value = Some("(hidden)".to_owned());
            }
        }
    }
    found
}

/// Whether an option has this value in what may be shown.
fn has(shown: Option<&str>, name: &str, value: Option<&str>) -> bool {
    let options = shown.and_then(|shown| fields(shown).ok()).unwrap_or_default();
    let found = options.iter().find(|(its, _)| its.eq_ignore_ascii_case(name));
    found.map(|(_, seen)| seen.get()) == value
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    const OTHER: &str = "AwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";

    fn with(key: &str) -> String {
        canonical(&format!(r#"{{"Type":"wireguard","PSK":"{key}","ListenPort":51820}}"#))
    }

    fn shown(before: &str, after: &str, is_shown: bool) -> Vec<String> {
        let found = differences(before, after, is_shown);
        found.iter().map(|d| format!("{} {:?} {:?}", d.field, d.from, d.to)).collect()
    }

    #[test]
    fn of_a_secret_it_is_told_that_it_is_another_one_and_no_more() {
        assert_eq!(shown(&with(ONE), &with(OTHER), false), [r#"PSK Some("(hidden)") Some("(hidden)")"#]);
        assert_eq!(shown(&with(ONE), &with(ONE), false), [""; 0]);
        let vxlan = r#"{"Type":"vxlan"}"#;
        assert_eq!(
            shown(vxlan, &with(ONE), false),
            [
                r#"ListenPort None Some("51820")"#,
                r#"PSK None Some("(hidden)")"#,
                r#"Type Some("\"vxlan\"") Some("\"wireguard\"")"#
            ]
        );
        assert_eq!(
            shown(&with(ONE), vxlan, false)[1..],
            [r#"ListenPort Some("51820") None"#, r#"PSK Some("(hidden)") None"#]
        );
        // Of what is wrong it is not known what is secret in it.
        let wrong = shown(vxlan, &with("c2VjcmV0"), false);
        assert!(wrong.iter().all(|line| line.ends_with(r#"Some("(hidden)")"#)), "{wrong:?}");
    }

    #[test]
    fn where_the_secrets_are_not_known_the_rest_is_compared() {
        let told = without_secrets(&with(ONE)).expect("a key");
        assert!(!told.contains(ONE) && told.contains("51820"), "{told}");
        assert_eq!((super::told(&told), super::told(&with(ONE))), (told.clone(), told.clone()));
        assert_eq!(shown(&told, &with(OTHER), true), [""; 0]);
        let other = canonical(&with(OTHER).replace("51820", "51900"));
        assert_eq!(shown(&told, &other, true), [r#"ListenPort Some("51820") Some("51900")"#]);
    }
}
