//! Whether a component fits the contract: it imports only what this host has, and exports what this host calls.

use super::outline::Outline;
use super::wasi;

/// The version of the contract in `wit/`.
pub const CONTRACT: &str = "0.1.0";

/// The interfaces that a component may import, without package and version.
pub const INTERFACES: [&str; 21] = [
    "types",
    "links",
    "routes",
    "neighbours",
    "fdb",
    "wireguard",
    "udp-tunnel",
    "cloud",
    "node-info",
    "http",
    "metrics",
    "own-lease",
    "peers",
    COMMANDS,
    "ipsec",
    "policy-routing",
    PROBE,
    "tunnel-links",
    "log",
    "clock",
    "state",
];

/// The interface of commands.
pub(crate) const COMMANDS: &str = "commands";

/// The interface of probes.
pub const PROBE: &str = "probe";

/// What all of WASI's interfaces are called together.
pub const WASI: &str = "wasi";

const PACKAGE: &str = "flannel:backend/";
const POLICY: &str = "flannel:backend/policy@0.1.0";
const CLOUD_PERMISSIONS: &str = "flannel:backend/cloud-permissions@0.1.0";

const RETIREMENT: &str = "flannel:backend/retirement@0.1.0";

/// What does not fit.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum IncompatibleComponent {
    /// An import that this host does not have in any version.
    #[error("it imports {import}, which this flanneld does not have; it has {PACKAGE}{{{have}}}@{CONTRACT}")]
    Unknown {
        /// The import.
        import: String,
        /// The interfaces that there are.
        have: String,
    },
    /// An interface of another version of the contract.
    #[error(
        "it imports {import}, and this flanneld has version {have} of it: build the plugin against that version"
    )]
    OtherVersion {
        /// The import.
        import: String,
        /// The versions that there are.
        have: String,
    },
    /// An interface of WASI that no plugin gets.
    #[error(
        "it imports {import}, which no plugin gets; of WASI there are cli, clocks, filesystem, io, random and sockets in version 0.2, all of them empty: build the plugin without the feature that needs more"
    )]
    Wasi {
        /// The import.
        import: String,
    },
    /// It is not a policy.
    #[error("it does not export {POLICY}: it is a component, but not a flanneld backend")]
    NoPolicy,
}

/// Whether a component says what it needs of clouds.
pub(crate) fn has_needs(outline: &Outline) -> bool {
    outline.exports.iter().any(|name| name == CLOUD_PERMISSIONS)
}

/// Whether a component has something to do when its backend ends.
pub(crate) fn has_retirement(outline: &Outline) -> bool {
    outline.exports.iter().any(|name| name == RETIREMENT)
}

/// The versions in which this host serves an interface, the oldest first; none if it has no such interface. A second version of one is
/// a second entry here, an interface and a file of its own in `capability/`, and both check alike (`wit/README.md`).
pub(crate) fn served(interface: &str) -> &'static [&'static str] {
    if INTERFACES.contains(&interface) { &[CONTRACT] } else { &[] }
}

/// Checks imports and exports by their names; their types are checked when an instance is made. `served`: see the function of that name.
pub(crate) fn check(
    outline: &Outline,
    served: impl Fn(&str) -> &'static [&'static str],
) -> Result<(), IncompatibleComponent> {
    for name in &outline.imports {
        if let Some(rest) = name.strip_prefix(wasi::NAMESPACE) {
            check_wasi(name, rest)?;
            continue;
        }
        let Some(rest) = name.strip_prefix(PACKAGE) else { return Err(unknown(name)) };
        let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
        match served(interface) {
            [] => return Err(unknown(name)),
            versions if versions.contains(&version) => {}
            versions => {
                let (import, have) = (name.to_owned(), versions.join(" and "));
                return Err(IncompatibleComponent::OtherVersion { import, have });
            }
        }
    }
    if outline.exports.iter().any(|name| name == POLICY) {
        Ok(())
    } else {
        Err(IncompatibleComponent::NoPolicy)
    }
}

fn check_wasi(import: &str, rest: &str) -> Result<(), IncompatibleComponent> {
    let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
    let is_served = wasi::INTERFACES.contains(&interface) && version.starts_with(wasi::VERSION);
    if is_served { Ok(()) } else { Err(IncompatibleComponent::Wasi { import: import.to_owned() }) }
}

/// Whether a component imports anything of WASI.
pub(crate) fn has_wasi(outline: &Outline) -> bool {
    outline.imports.iter().any(|name| name.starts_with(wasi::NAMESPACE))
}

/// The interfaces that a component imports, without package and version; all of WASI's together are [`WASI`].
pub(crate) fn names(outline: &Outline) -> Vec<String> {
    let short = |name: &str| name.strip_prefix(PACKAGE).unwrap_or(name).split('@').next().map(str::to_owned);
    let is_wasi = |name: &str| name.starts_with(wasi::NAMESPACE);
    let imports = outline.imports.iter().map(String::as_str).filter(|name| !is_wasi(name));
    let wasi = has_wasi(outline).then(|| WASI.to_owned());
    imports.filter_map(short).chain(wasi).collect()
}

fn unknown(import: &str) -> IncompatibleComponent {
    IncompatibleComponent::Unknown { import: import.to_owned(), have: INTERFACES.join(",") }
}
