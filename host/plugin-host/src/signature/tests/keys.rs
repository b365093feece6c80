//! Keys, public and private: what is read, and what is said of what is none.

use std::process::Command;

use super::*;

/// What OpenSSL writes.
fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).output().expect("openssl");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn text(arguments: &[&str]) -> String {
    String::from_utf8(openssl(arguments)).expect("text")
}

fn public(arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("key.pem");
    std::fs::write(&file, openssl(arguments)).expect("written");
    text(&["pkey", "-in", file.to_str().expect("a path"), "-pubout"])
}

#[test]
fn a_public_key_is_written_as_it_was_read() {
    for name in ["p256", "ed25519"] {
        let text = std::fs::read_to_string(fixture(&format!("{name}.pub"))).expect("read");
        let keys = PublicKey::read(&text).expect("a key");
        assert_eq!(keys.iter().map(PublicKey::to_pem).collect::<String>(), text);
        assert_eq!(fixture_private_key(name).public(), &keys[0], "the private half of it");
    }
    let both = ["p256", "ed25519"]
        .map(|name| std::fs::read_to_string(fixture(&format!("{name}.pub"))).expect("read"));
    assert_eq!(PublicKey::read(&both.concat()).expect("two keys").len(), 2);
    assert!(PublicKey::read(&both.concat().repeat(5)).is_err(), "too many");
}

#[test]
fn what_is_no_public_key_is_refused_with_what_it_is() {
    let good = std::fs::read_to_string(fixture("p256.pub")).expect("read");
    let compressed = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let compressed = {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("key.pem");
        std::fs::write(&file, openssl(&compressed)).expect("written");
        let file = file.to_str().expect("a path");
        text(&["ec", "-in", file, "-pubout", "-conv_form", "compressed"])
    };
    let weak = pem::encode(&pem::Pem::new(
        "PUBLIC KEY",
        [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00, 1][..], &[0; 31]].concat(),
    ));
    for (wrong, said) in [
        (String::new(), "no PEM block"),
        ("something".to_owned(), "no PEM block"),
        (good.replace("-----END", "-----AND"), "no"),
        (good.replace('M', "A"), "damaged"),
        (std::fs::read_to_string(fixture("p256.key")).expect("read"), "a private key"),
        (good.replace("PUBLIC KEY", "CERTIFICATE"), "a certificate"),
        (good.replace("PUBLIC KEY", "THING"), "\"THING\""),
        (public(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]), "an RSA key"),
        (public(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]), "another curve"),
        (public(&["genpkey", "-algorithm", "X25519"]), "another algorithm"),
        (compressed, "uncompressed form"),
        (weak, "no private key belongs to"),
    ] {
        let error = PublicKey::read(&wrong).expect_err(said).to_string();
        assert!(error.contains(said) && error.contains("ECDSA P-256 or Ed25519"), "{said}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn private_keys_of_openssl_sign_what_openssl_verifies() {
    let directory = tempfile::tempdir().expect("directory");
    let file = |name: &str| directory.path().join(name).to_str().expect("a path").to_owned();
    let curve = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    std::fs::write(file("key"), openssl(&curve)).expect("written");
    let key = PrivateKey::read(Path::new(&file("key")), None).expect("a key");
    std::fs::write(file("pub"), key.public().to_pem()).expect("written");
    std::fs::write(file("data"), b"bytes").expect("written");
    std::fs::write(file("sig"), key.sign(b"bytes").expect("signed")).expect("written");
    let verified =
        text(&["dgst", "-sha256", "-verify", &file("pub"), "-signature", &file("sig"), &file("data")]);
    assert!(verified.contains("Verified OK"), "{verified}");

    std::fs::write(file("key"), openssl(&["genpkey", "-algorithm", "ed25519"])).expect("written");
    let key = PrivateKey::read(Path::new(&file("key")), None).expect("a key");
    std::fs::write(file("pub"), key.public().to_pem()).expect("written");
    std::fs::write(file("sig"), key.sign(b"bytes").expect("signed")).expect("written");
    let (public, signature, data) = (file("pub"), file("sig"), file("data"));
    openssl(&[
        "pkeyutl", "-verify", "-pubin", "-inkey", &public, "-rawin", "-in", &data, "-sigfile", &signature,
    ]);
}

#[test]
fn what_is_no_private_key_is_refused_in_words_without_anything_of_it() {
    let sealed = std::fs::read_to_string(fixture("p256.key")).expect("read");
    let directory = tempfile::tempdir().expect("directory");
    let other_form = text(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"]);
    let rsa = text(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let costly = {
        let block = pem::parse(&sealed).expect("PEM");
        let json = String::from_utf8(block.contents().to_vec()).expect("text");
        let costly = json.replace("65536", "1073741824");
        assert_ne!(costly, json);
        pem::encode(&pem::Pem::new(block.tag(), costly.into_bytes()))
    };
    for (wrong, password, said) in [
        (sealed.clone(), None, "set COSIGN_PASSWORD"),
        (sealed.clone(), Some("wrong"), "the password does not fit"),
        (costly, Some("correct-horse"), "in another way than cosign"),
        (sealed.replace("ENCRYPTED SIGSTORE PRIVATE KEY", "PRIVATE KEY"), None, "no valid key"),
        (other_form, None, "openssl pkcs8 -topk8"),
        (rsa, None, "no valid key of ECDSA P-256 or Ed25519"),
        (std::fs::read_to_string(fixture("p256.pub")).expect("read"), None, "the private one"),
        ("nothing".to_owned(), None, "no PEM block"),
    ] {
        let file = directory.path().join("key");
        std::fs::write(&file, &wrong).expect("written");
        let error = PrivateKey::read(&file, password).err().expect(said).to_string();
        assert!(error.contains(said) && error.starts_with(&format!("key {}: ", file.display())), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let missing = PrivateKey::read(&directory.path().join("missing"), None).err().expect("refused");
    assert!(missing.to_string().contains("No such file"), "{missing}");
}
