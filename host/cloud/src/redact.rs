//! Takes secrets out of what comes back: a service that repeats its question, or a proxy that shows the headers in its error page,
//! must not carry them into the sandbox.

use std::borrow::Cow;

use super::percent;
use crate::Secret;

/// What stands in their place.
const PLACEHOLDER: &str = "(hidden)";
/// Shorter ones are no secrets, and would hit words.
const SHORTEST: usize = 8;

/// A text without the secrets, as they are and as they are written in URLs, in JSON and in XML.
pub(crate) fn redact<'t>(text: &'t str, secrets: &[Secret]) -> Cow<'t, str> {
    let mut clean = Cow::Borrowed(text);
    for secret in secrets.iter().filter(|secret| secret.reveal().len() >= SHORTEST) {
        for form in forms(secret.reveal()) {
            if clean.contains(form.reveal()) {
                clean = Cow::Owned(clean.replace(form.reveal(), PLACEHOLDER));
            }
        }
    }
    clean
}

fn forms(plain: &str) -> Vec<Secret> {
    let mut all = vec![Secret::new(plain.to_owned())];
    let mut add = |text: String| {
        let text = Secret::new(text);
        if !all.contains(&text) {
            all.push(text);
        }
    };
    let encoded = percent(plain);
    add(encoded.to_ascii_lowercase());
    add(encoded);
    add(plain.replace('/', "\\/"));
    let xml = plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    add(xml.replace('"', "&quot;"));
    // As JSON that is careful about HTML has it.
    add(plain
        .replace('&', "\\u0026")
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('=', "\\u003d"));
    add(plain.replace('=', "\\u003D"));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_however_it_is_written() {
        let secret = Secret::new("canary/with+signs=&more".to_owned());
        for shown in [
            "canary/with+signs=&more",
            "canary%2Fwith%2Bsigns%3D%26more",
            "canary%2fwith%2bsigns%3d%26more",
            r"canary\/with+signs=&more",
            "canary/with+signs=&amp;more",
            r"canary/with+signs\u003d\u0026more",
        ] {
            let text = format!("<Message>you said {shown}, and</Message>");
            let clean = redact(&text, std::slice::from_ref(&secret));
            assert_eq!(clean, "<Message>you said (hidden), and</Message>", "{shown}");
        }
    }

    #[test]
    fn other_words_stay() {
        let secrets =
            [Secret::new(String::new()), Secret::new("a".to_owned()), Secret::new("12345678".to_owned())];
        assert_eq!(redact("a banana 1234567", &secrets), "a banana 1234567");
    }
}
