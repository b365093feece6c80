//! Signatures beside a file: those that cosign and OpenSSL write, several, and such as are none.

use std::fs;

use super::*;

/// A plugin's file, and what is beside it.
struct Bench {
    directory: tempfile::TempDir,
    trusted: Vec<TrustedKey>,
}

const BYTES: &[u8] = b"a plugin";

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        fs::write(directory.path().join("p.wasm"), BYTES).expect("written");
        Self { directory, trusted: vec![fixture_key("p256"), fixture_key("ed25519")] }
    }

    fn plugin(&self) -> PathBuf {
        self.directory.path().join("p.wasm")
    }

    fn put(&self, extension: &str, content: impl AsRef<[u8]>) {
        fs::write(beside_name(&self.plugin(), extension), content).expect("written");
    }

    fn signers(&self) -> Vec<String> {
        self.look().signers.into_iter().map(|signer| signer.name).collect()
    }

    fn look(&self) -> Provenance {
        verify_file(&self.plugin(), &self.trusted).expect("read").1
    }

    fn unsigned(&self) -> String {
        let unsigned = self.look().unsigned.expect("unsigned");
        assert_eq!(unsigned.lines().count(), 1, "{unsigned}");
        unsigned
    }
}

#[test]
fn what_cosign_writes_beside_a_file_is_verified() {
    let directory = tempfile::tempdir().expect("directory");
    let plugin = directory.path().join("p.wasm");
    fs::copy(fixture("component.wasm"), &plugin).expect("copied");
    let trusted = [fixture_key("p256")];
    for extension in [SIGNATURE_EXTENSION, BUNDLE_EXTENSION] {
        let file = beside_name(&plugin, extension);
        fs::copy(fixture(&format!("component.wasm{extension}")), &file).expect("copied");
        let (digest, provenance) = verify_file(&plugin, &trusted).expect("read");
        assert_eq!(digest, Digest::of(&fs::read(&plugin).expect("read")));
        assert_eq!(provenance.signers[0].to_string(), format!("p256 (key {})", trusted[0].key.id()));
        let (_, provenance) = verify_file(&plugin, &[fixture_key("ed25519")]).expect("read");
        assert!(provenance.signers.is_empty(), "{extension} is by another key");
        fs::remove_file(file).expect("removed");
    }
}

#[test]
fn a_changed_byte_of_the_plugin_or_of_the_signature_is_noticed() {
    let bench = Bench::new();
    let key = fixture_private_key("p256");
    bench.put(SIGNATURE_EXTENSION, key.sign_file(BYTES).expect("signed"));
    assert_eq!(bench.signers(), ["p256"]);
    for position in 0..BYTES.len() {
        let mut changed = BYTES.to_vec();
        changed[position] ^= 1;
        fs::write(bench.plugin(), changed).expect("written");
        assert!(bench.signers().is_empty(), "byte {position}");
    }
    fs::write(bench.plugin(), BYTES).expect("written");
    let good = key.sign(BYTES).expect("signed");
    for position in 0..good.len() {
        let mut changed = good.clone();
        changed[position] ^= 1;
        bench.put(SIGNATURE_EXTENSION, changed);
        assert!(bench.signers().is_empty(), "byte {position}");
    }
}

#[test]
fn signatures_come_in_base64_one_a_line_or_as_they_are() {
    let bench = Bench::new();
    let (p256, ed25519) = (fixture_private_key("p256"), fixture_private_key("ed25519"));
    bench.put(SIGNATURE_EXTENSION, p256.sign(BYTES).expect("signed"));
    assert_eq!(bench.signers(), ["p256"]);
    bench.put(
        SIGNATURE_EXTENSION,
        format!(
            "{}\r\n\n{}\n",
            ed25519.sign_file(BYTES).expect("signed"),
            p256.sign_file(BYTES).expect("signed")
        ),
    );
    assert_eq!(bench.signers(), ["p256", "ed25519"]);
    let rubbish = p256.sign_file(b"other").expect("signed") + "\n";
    bench.put(SIGNATURE_EXTENSION, rubbish.repeat(4) + &p256.sign_file(BYTES).expect("signed"));
    assert!(bench.signers().is_empty(), "only so many are looked at");
}

#[test]
fn why_nobody_has_signed_is_said_in_one_line() {
    let bench = Bench::new();
    let shown = bench.plugin().display().to_string();
    assert_eq!(
        bench.unsigned(),
        format!("it has no signature: there is neither {shown}.sig nor {shown}.sigstore.json")
    );
    bench.put(SIGNATURE_EXTENSION, "");
    assert_eq!(bench.unsigned(), format!("there is no signature in {shown}.sig"));
    bench.put(SIGNATURE_EXTENSION, "x".repeat(70_000));
    assert_eq!(bench.unsigned(), format!("{shown}.sig cannot be read: it is larger than 64 KiB"));
    bench.put(SIGNATURE_EXTENSION, fixture_private_key("p256").sign_file(b"other").expect("signed"));
    assert_eq!(bench.unsigned(), "its signature is by none of the keys given, or of other bytes");
    fs::remove_file(beside_name(&bench.plugin(), SIGNATURE_EXTENSION)).expect("removed");
    let made = std::process::Command::new("mkfifo").arg(format!("{shown}.sig")).status().expect("mkfifo");
    assert!(made.success());
    assert!(bench.unsigned().contains("no regular file"), "{}", bench.unsigned());
}

#[test]
fn bundles_that_are_none_are_said_and_do_no_harm_to_a_signature() {
    let bench = Bench::new();
    let key = fixture_private_key("p256");
    let bundle = |signature: &str, rest: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","messageSignature":{{"signature":"{signature}"}}{rest}}}"#
        )
    };
    let good = key.sign_file(BYTES).expect("signed");
    bench.put(BUNDLE_EXTENSION, bundle(&good, r#","verificationMaterial":{"tlogEntries":[{"x":[1]}]}"#));
    assert_eq!(bench.signers(), ["p256"]);
    for wrong in [
        "{}".to_owned(),
        "[".repeat(60_000),
        bundle("%", ""),
        bundle(&good, "").replace("sigstore.bundle", "something"),
        bundle(&good, "").replace("messageSignature", "dsseEnvelope"),
    ] {
        bench.put(BUNDLE_EXTENSION, &wrong);
        assert!(bench.unsigned().contains("there is no signature in "), "{}", bench.unsigned());
    }
    bench.put(SIGNATURE_EXTENSION, good);
    assert_eq!(bench.signers(), ["p256"]);
}
