//! Grants by signers and keys, alone and beside names and digests.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;
use crate::Grants;
use crate::signature::tests::{fixture, fixture_key};
use crate::signature::{Provenance, Signer};

const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A file with grants, beside the keys of the fixtures.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        for key in ["p256.pub", "ed25519.pub"] {
            std::fs::copy(fixture(key), directory.path().join(key)).expect("copied");
            mode(&directory.path().join(key), 0o644);
        }
        let bench = Self { directory };
        std::fs::write(bench.file(), "").expect("written");
        mode(&bench.file(), 0o644);
        bench
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("grants.toml")
    }

    fn grants(&self, text: &str) -> Grants {
        std::fs::write(self.file(), text).expect("written");
        Grants::new(Some(self.file()), Vec::new(), &[])
    }

    /// What a plugin of this name, which these keys have signed, is granted.
    fn granted(&self, text: &str, name: &str, keys: &[&str]) -> Vec<String> {
        let provenance = signed_by(keys);
        let granted = self.grants(text).of(&asker(name, &provenance)).expect("a good file");
        granted.interfaces.into_iter().collect()
    }

    fn error(&self, text: &str) -> String {
        let error = self.grants(text).trusted_keys().expect_err(text).to_string();
        let place = format!("--plugin-grants {}: ", self.file().display());
        assert_eq!(error.lines().count(), 1, "{error}");
        error.strip_prefix(&place).expect("the place").to_owned()
    }
}

/// Whatever the umask is.
fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
}

fn signed_by(keys: &[&str]) -> Provenance {
    let signers =
        keys.iter().map(|name| Signer { name: (*name).to_owned(), key: fixture_key(name).key.id() });
    Provenance { signers: signers.collect(), ..Provenance::default() }
}

fn asker<'a>(name: &'a str, provenance: &'a Provenance) -> GrantRequest<'a> {
    GrantRequest { digest: DIGEST, name, provenance, imports: &[], needs: &[] }
}

#[test]
fn a_grant_by_signer_is_for_what_the_signer_has_signed_and_for_nothing_else() {
    let bench = Bench::new();
    for text in [
        "[[signer]]\nname = \"acme\"\nkey = \"p256.pub\"\n[[grant]]\nsigner = \"acme\"\nallow = [\"links\"]"
            .to_owned(),
        format!(
            "[[grant]]\nkey = '{}'\nallow = [\"links\"]",
            bench.directory.path().join("p256.pub").display()
        ),
        format!("[[grant]]\nkey = \"\"\"{}\"\"\"\nallow = [\"links\"]", fixture_key("p256").key.to_pem()),
    ] {
        assert_eq!(bench.granted(&text, "p", &["p256"]), ["links"], "{text}");
        assert_eq!(bench.granted(&text, "p", &["ed25519", "p256"]), ["links"], "{text}");
        assert!(bench.granted(&text, "p", &["ed25519"]).is_empty(), "{text}");
        assert!(bench.granted(&text, "acme", &[]).is_empty(), "{text}");
    }
}

#[test]
fn of_what_stands_side_by_side_in_a_grant_all_has_to_hold() {
    let bench = Bench::new();
    let signer = "[[signer]]\nname = \"acme\"\nkey = \"p256.pub\"\n[[grant]]\nallow = [\"links\"]\nsigner = \"acme\"\n";
    let named = format!("{signer}name = \"p\"");
    assert_eq!(bench.granted(&named, "p", &["p256"]), ["links"]);
    assert!(bench.granted(&named, "q", &["p256"]).is_empty());
    assert!(bench.granted(&named, "p", &[]).is_empty());
    for (digest, granted) in [(DIGEST.to_owned(), true), (DIGEST.replace('0', "1"), false)] {
        for text in [
            format!("{signer}digest = \"sha256:{digest}\""),
            format!("[[grant]]\nallow = [\"links\"]\nname = \"p\"\ndigest = \"sha256:{digest}\""),
        ] {
            assert_eq!(bench.granted(&text, "p", &["p256"]).len(), usize::from(granted), "{text}");
        }
    }
}

#[test]
fn a_signer_has_several_keys_while_one_takes_the_others_place() {
    let bench = Bench::new();
    let both = ["p256", "ed25519"].map(|name| fixture_key(name).key.to_pem()).concat();
    std::fs::write(bench.directory.path().join("both.pub"), both).expect("written");
    let text =
        "[[signer]]\nname = \"acme\"\nkey = \"both.pub\"\n[[grant]]\nsigner = \"acme\"\nallow = [\"links\"]";
    for key in ["p256", "ed25519"] {
        assert_eq!(bench.granted(text, "p", &[key]), ["links"]);
    }
    let names: Vec<String> =
        bench.grants(text).trusted_keys().expect("keys").into_iter().map(|key| key.name).collect();
    assert_eq!(names, ["acme", "acme"]);
}

#[test]
fn what_is_wrong_with_signers_is_said_with_its_place() {
    let bench = Bench::new();
    let signer = |name: &str, key: &str| format!("[[signer]]\nname = \"{name}\"\nkey = \"{key}\"\n");
    let grant = |what: &str| format!("[[grant]]\n{what}\nallow = []\n");
    std::fs::write(bench.directory.path().join("wrong.pub"), "no key").expect("written");
    std::fs::create_dir(bench.directory.path().join("directory.pub")).expect("made");
    for (text, said) in [
        (
            signer("a", "missing.pub"),
            "signer 1: key = \"missing.pub\": the file cannot be read: No such file",
        ),
        (
            signer("a", "directory.pub"),
            "signer 1: key = \"directory.pub\": the file cannot be read: it is no regular file",
        ),
        (signer("a", "wrong.pub"), "signer 1: key = \"wrong.pub\": there is no PEM block"),
        (signer("", "p256.pub"), "signer 1: name = \"\" is no name"),
        (signer("a", "p256.pub") + &signer("a", "ed25519.pub"), "signer 2: name = \"a\" is there twice"),
        (
            signer("a", "p256.pub") + &signer("b", "ed25519.pub") + &grant("signer = \"c\""),
            "grant 1: signer = \"c\": there is no [[signer]] of that name; there are: a, b",
        ),
        (
            grant("key = \"p256.pub\"") + &grant("signer = \"p256.pub\""),
            "grant 2: signer = \"p256.pub\": there is no [[signer]] of that name; there are: none",
        ),
        (
            signer("a", "p256.pub") + &grant("signer = \"a\"\nkey = \"p256.pub\""),
            "grant 1: it has both signer and key",
        ),
        (grant("key = \"-----BEGIN NONSENSE\""), "grant 1: key: "),
        ("[[signer]]\nname = \"a\"".to_owned(), "line 1: missing field `key`"),
        (grant("sinner = \"a\""), "line 2: unknown field `sinner`"),
    ] {
        let error = bench.error(&text);
        assert!(error.starts_with(said), "{said}: {error}");
    }
}

#[test]
fn a_refusal_says_what_there_is_of_signatures() {
    let bench = Bench::new();
    let grants = bench.grants("[[grant]]\nkey = \"p256.pub\"\nallow = [\"links\"]");
    let imports = ["links".to_owned()];
    let refusal = |provenance: &Provenance| {
        let asker = GrantRequest { imports: &imports, ..asker("p", provenance) };
        grants.check(&asker).expect_err("refused").to_string()
    };
    let unsigned = Provenance { unsigned: Some("it has no signature".to_owned()), ..Provenance::default() };
    let error = refusal(&unsigned);
    assert!(
        error.starts_with("it asks for links, which it is not granted (it has no signature); to grant"),
        "{error}"
    );
    let error = refusal(&signed_by(&["ed25519"]));
    assert!(error.contains("(it is signed by ed25519 (key sha256:"), "{error}");
}

/// Others can exchange the plugin's file: what it calls itself is what they like.
#[test]
fn a_name_alone_grants_nothing_to_a_file_that_others_can_exchange() {
    let bench = Bench::new();
    let why = Some("/srv can be written by other users".to_owned());
    let provenance = Provenance { exchangeable: why, ..signed_by(&["p256"]) };
    let imports = ["links".to_owned()];
    let asker = GrantRequest { imports: &imports, ..asker("p", &provenance) };
    for (beside, is_granted) in
        [("", false), ("key = \"p256.pub\"", true), (&*format!("digest = \"sha256:{DIGEST}\""), true)]
    {
        let grants = bench.grants(&format!("[[grant]]\nname = \"p\"\n{beside}\nallow = [\"links\"]"));
        let early = grants.might_have(DIGEST, &imports, &provenance);
        assert_eq!(early.is_ok(), is_granted, "{beside}: {early:?}");
        match grants.check(&asker) {
            Ok(_) => assert!(is_granted, "{beside}"),
            Err(error) => assert!(
                error
                    .to_string()
                    .contains("others can exchange its file: /srv can be written by other users); to"),
                "{error}"
            ),
        }
    }
    let allowed = Grants::new(None, vec!["links".to_owned()], &[]);
    allowed.check(&asker).expect("granted for this run, whatever it is");
    let doubts = allowed.doubts(&asker);
    assert!(doubts.len() == 1 && doubts[0].contains("others can exchange the plugin's file"), "{doubts:?}");
    assert!(Grants::everything().doubts(&asker).is_empty(), "a sandbox has nothing to lose");
}

#[test]
fn a_file_with_grants_or_keys_that_others_can_write_to_grants_nothing() {
    let bench = Bench::new();
    let text = "[[grant]]\nkey = \"p256.pub\"\nallow = [\"links\"]";
    bench.grants(text);
    let key = bench.directory.path().join("p256.pub");
    for (path, wrong, right) in
        [(bench.file(), 0o664, 0o644), (key, 0o646, 0o644), (bench.directory.path().to_owned(), 0o770, 0o700)]
    {
        mode(&path, wrong);
        let error = bench.error(text);
        let said = format!("(uid 0, mode {wrong:o}): `chmod go-w {}`", path.display());
        let said = said.replace("uid 0", &format!("uid {}", rustix::process::geteuid().as_raw()));
        assert!(error.contains(&said), "{error}");
        mode(&path, right);
        assert_eq!(bench.granted(text, "p", &["p256"]), ["links"]);
    }
}

#[test]
fn a_grant_by_name_alone_is_doubted_and_one_with_a_signer_or_digest_is_not() {
    let bench = Bench::new();
    let provenance = signed_by(&["p256"]);
    for (beside, doubted) in
        [("", true), ("key = \"p256.pub\"", false), (&*format!("digest = \"sha256:{DIGEST}\""), false)]
    {
        let grants = bench.grants(&format!("[[grant]]\nname = \"p\"\n{beside}\nallow = [\"links\"]"));
        let doubts = grants.doubts(&asker("p", &provenance));
        assert_eq!(doubts.len(), usize::from(doubted), "{beside}: {doubts:?}");
        assert!(doubts.iter().all(|doubt| doubt.contains("grant 1") && doubt.contains(DIGEST)), "{doubts:?}");
        assert!(grants.doubts(&asker("q", &provenance)).is_empty(), "it is for another");
    }
}
