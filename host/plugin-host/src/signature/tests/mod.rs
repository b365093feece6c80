//! Signatures that cosign and OpenSSL have made, and others that are none.

mod beside;
mod keys;

use std::path::{Path, PathBuf};

use super::*;

/// What cosign has made.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/cosign").join(name)
}

/// A key of the fixtures, by its name.
pub(crate) fn fixture_key(name: &str) -> TrustedKey {
    let keys = PublicKey::read_file(&fixture(&format!("{name}.pub"))).expect("a key");
    let [key] = &keys[..] else { panic!("one key: {keys:?}") };
    TrustedKey { name: name.to_owned(), key: key.clone() }
}

/// The private half of a key of the fixtures.
pub(crate) fn fixture_private_key(name: &str) -> PrivateKey {
    PrivateKey::read(&fixture(&format!("{name}.key")), Some("correct-horse")).expect("a key")
}

/// What cosign makes of an image is good, but for one thing.
fn envelope(key: &PrivateKey, content_type: &str, content: &str) -> Evidence {
    let message = signed_text::envelope(content_type, content.as_bytes());
    Evidence::Envelope {
        content_type: content_type.to_owned(),
        content: content.as_bytes().to_owned(),
        signature: key.sign(&message).expect("signed"),
    }
}

#[test]
fn a_statement_counts_only_if_it_says_that_exactly_this_is_signed() {
    let (key, subject) = (fixture_private_key("p256"), Subject::new(b"a manifest"));
    let digest = Digest::of(b"a manifest").hex();
    let good = format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"digest":{{"sha256":"{digest}"}}}}],"predicateType":"https://sigstore.dev/cosign/sign/v1"}}"#
    );
    assert!(envelope(&key, signed_text::STATEMENT, &good).is_good(key.public(), &subject));
    for (wrong, what) in [
        (good.replace("cosign/sign/v1", "cosign/attestation/v1"), "an attestation of something else"),
        (good.replace(&digest, &Digest::of(b"another").hex()), "of something else"),
        (good.replace("Statement/v1", "Statement/v9"), "of another form"),
        (good.replace("sha256", "sha512"), "another kind of digest"),
        (format!("{good}{good}"), "two of them"),
        (String::new(), "nothing"),
    ] {
        let evidence = envelope(&key, signed_text::STATEMENT, &wrong);
        assert!(!evidence.is_good(key.public(), &subject), "{what}");
    }
    assert!(!envelope(&key, "text/plain", &good).is_good(key.public(), &subject), "another type");
}

#[test]
fn what_is_signed_in_one_form_does_not_count_in_another() {
    let (key, subject) = (fixture_private_key("p256"), Subject::new(b"a manifest"));
    let text = simple_signing("r/p", Digest::of(b"a manifest"));
    let signature = key.sign(&text).expect("signed");
    let good = Evidence::SimpleSigning { text: text.clone(), signature: signature.clone() };
    assert!(good.is_good(key.public(), &subject));
    assert!(!Evidence::Plain { signature: signature.clone() }.is_good(key.public(), &subject));
    let content_type = signed_text::STATEMENT.to_owned();
    assert!(
        !Evidence::Envelope { content_type, content: text.clone(), signature }
            .is_good(key.public(), &subject)
    );
    let other_kind = String::from_utf8(text).expect("text").replace("cosign container", "another");
    let signature = key.sign(other_kind.as_bytes()).expect("signed");
    let evidence = Evidence::SimpleSigning { text: other_kind.into_bytes(), signature };
    assert!(!evidence.is_good(key.public(), &subject));
}

#[test]
fn of_several_signatures_one_good_one_is_enough_for_each_key() {
    let subject = Subject::new(b"bytes");
    let (p256, ed25519) = (fixture_private_key("p256"), fixture_private_key("ed25519"));
    let trusted = [fixture_key("p256"), fixture_key("ed25519")];
    let plain = |signature: Vec<u8>| Evidence::Plain { signature };
    let evidence = [
        plain(b"rubbish".to_vec()),
        plain(p256.sign(b"others").expect("signed")),
        plain(p256.sign(b"bytes").expect("signed")),
    ];
    let judged = Provenance::judge(&evidence, &subject, &trusted, || unreachable!("it is signed"));
    assert_eq!(judged.signers.iter().map(|signer| signer.name.as_str()).collect::<Vec<_>>(), ["p256"]);
    let evidence = [plain(ed25519.sign(b"bytes").expect("signed")), evidence[2].clone()];
    let judged = Provenance::judge(&evidence, &subject, &trusted, || unreachable!("it is signed"));
    assert_eq!(judged.signers.len(), 2);
    let judged = Provenance::judge(&evidence, &subject, &[], || unreachable!("nobody asks"));
    assert_eq!(judged, Provenance::default());
    let judged = Provenance::judge(&evidence, &Subject::new(b"other"), &trusted, || none_of(2));
    assert_eq!(
        judged.signatures().as_deref(),
        Some("none of its 2 signatures is by one of the keys given, for these bytes")
    );
}

#[test]
fn an_ed25519_signature_is_taken_in_the_plain_and_in_the_prehashed_form() {
    use ed25519_dalek::SigningKey;
    use sha2::{Digest as _, Sha512};
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = PublicKey::ed25519(key.verifying_key().as_bytes()).expect("a key");
    let prehashed = key.sign_prehashed(Sha512::new_with_prefix(b"bytes"), None).expect("signed").to_bytes();
    assert!(public.has_signed(b"bytes", &prehashed));
    assert!(!public.has_signed(b"other", &prehashed));
    let plain = ed25519_dalek::Signer::sign(&key, b"bytes").to_bytes();
    assert!(public.has_signed(b"bytes", &plain));
    assert!(!public.has_signed(b"other", &plain));
    let of_the_hash = ed25519_dalek::Signer::sign(&key, &Sha512::digest(b"bytes")).to_bytes();
    assert!(!public.has_signed(b"bytes", &of_the_hash));
}
