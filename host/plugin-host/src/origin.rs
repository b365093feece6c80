//! Whose a plugin's durable store is: a name proves nothing, since a plugin gives itself one. A store belongs to a name and to where the
//! plugin with it comes from.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::artifact::{BuiltIn, Source};
use super::digest::Digest;

/// Bytes of the longest name of a directory that has the origin in full; file systems take 255.
const LONGEST: usize = 200;
/// Bytes of a longer one before the digest.
const SHORTENED: usize = 120;

/// Where a plugin comes from, whichever version it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Part of the binary, or the same as such a part.
    BuiltIn,
    /// The file at this path: whoever can write there is the one who decides what the plugin is.
    File(PathBuf),
    /// This repository, after its registry.
    Registry(String),
}

impl Origin {
    /// Where a component comes from, if it is none that is built in.
    pub(super) fn of(source: &Source) -> Self {
        match source {
            Source::BuiltIn(_) => Self::BuiltIn,
            // The same file from wherever the daemon is started. Without a working directory the path has to do as it is.
            Source::File(path) => Self::File(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            Source::Registry(reference) => {
                Self::Registry(format!("{}/{}", reference.registry(), reference.repository))
            }
        }
    }

    /// The same, unless the component is also built in.
    pub(super) fn recognised(self, component: &[u8], built_in: &[BuiltIn]) -> Self {
        if built_in.iter().any(|plugin| plugin.component == component) { Self::BuiltIn } else { self }
    }

    /// The directory of the store of a plugin that calls itself `name`, which is a name of the contract's: `NAME@built-in`,
    /// `NAME@file:%2Fopt%2Fmy-net.wasm`, `NAME@oci:ghcr.io%2Facme%2Fmy-net`. No two origins have the same.
    pub(super) fn store(&self, name: &str) -> String {
        let (kind, bytes) = match self {
            Self::BuiltIn => return format!("{name}@built-in"),
            Self::File(path) => ("file:", path.as_os_str().as_bytes()),
            Self::Registry(repository) => ("oci:", repository.as_bytes()),
        };
        let store = format!("{name}@{kind}{}", escaped(bytes));
        if store.len() <= LONGEST {
            return store;
        }
        // Only ASCII is left in it. No origin that is given in full has a `~`.
        format!("{}~{}", &store[..SHORTENED], Digest::of(bytes).hex())
    }
}

/// As in URLs: what has a meaning for file systems, shells or here, as `%` and two digits.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.:".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Nothing is refused by a string.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str) -> Origin {
        Origin::of(&Source::File(path.into()))
    }

    fn registry(reference: &str) -> Origin {
        Origin::of(&Source::Registry(Box::new(reference.parse().expect("a reference"))))
    }

    #[test]
    fn a_store_is_named_after_the_plugin_and_where_it_comes_from() {
        for (origin, store) in [
            (Origin::of(&Source::BuiltIn("gce")), "gce@built-in"),
            (file("/opt/my net/gce.wasm"), "gce@file:%2Fopt%2Fmy%20net%2Fgce.wasm"),
            (registry("oci://ghcr.io:5000/acme/gce:v1"), "gce@oci:ghcr.io:5000%2Facme%2Fgce"),
        ] {
            assert_eq!(origin.store("gce"), store);
        }
    }

    #[test]
    fn versions_of_a_repository_and_ways_to_say_a_path_are_one_origin() {
        let digest = "sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c";
        assert_eq!(registry("oci://r/p:v1"), registry(&format!("oci://r/p:v2@{digest}")));
        assert_ne!(registry("oci://r/p:v1"), registry("oci://r:443/p:v1"));
        let here = std::env::current_dir().expect("a working directory");
        assert_eq!(file("./a.wasm"), file(&here.join("a.wasm").display().to_string()));
    }

    #[test]
    fn what_is_built_in_too_has_that_stores_name_wherever_it_comes_from() {
        let built_in = [BuiltIn { backend_type: "gce", component: b"a component", compiled: None }];
        assert_eq!(file("/opt/gce.wasm").recognised(b"a component", &built_in), Origin::BuiltIn);
        assert_eq!(file("/opt/gce.wasm").recognised(b"another", &built_in), file("/opt/gce.wasm"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_two_origins_have_one_store_and_each_is_a_name_in_one_directory(
            one in "/[a-b/%~@: é.]{0,300}", other in "/[a-b/%~@: é.]{0,300}"
        ) {
            let [one, other] = [one, other].map(|path| Origin::File(path.into()));
            prop_assert_eq!(one == other, one.store("p") == other.store("p"));
            let store = one.store(&"p".repeat(64));
            prop_assert!(store.len() <= 255 && !store.contains('/') && store.is_ascii(), "{}", store);
        }
    }
}
