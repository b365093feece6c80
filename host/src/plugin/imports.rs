//! Whether a component fits the contract: it imports only what this host has, and exports what this host calls.

use wasmtime::Engine;
use wasmtime::component::Component;

/// The version of the contract in `wit/`.
pub const CONTRACT: &str = "0.1.0";

/// The interfaces that a component may import, without package and version.
pub const INTERFACES: [&str; 10] =
    ["types", "links", "routes", "neighbours", "fdb", "wireguard", "tunnel", "log", "clock", "state"];

const PACKAGE: &str = "flannel:backend/";
const POLICY: &str = "flannel:backend/policy@0.1.0";

/// What does not fit.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum MisfitError {
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
        "it imports {import}, and this flanneld has version {CONTRACT} of it: build the plugin against that version"
    )]
    OtherVersion {
        /// The import.
        import: String,
    },
    /// It is not a policy.
    #[error("it does not export {POLICY}: it is a component, but not a flanneld backend")]
    NoPolicy,
}

/// Checks imports and exports by their names; their types are checked when an instance is made.
pub fn check(engine: &Engine, component: &Component) -> Result<(), MisfitError> {
    let kind = component.component_type();
    for (name, _) in kind.imports(engine) {
        let Some(rest) = name.strip_prefix(PACKAGE) else { return Err(unknown(name)) };
        let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
        if !INTERFACES.contains(&interface) {
            return Err(unknown(name));
        }
        if version != CONTRACT {
            return Err(MisfitError::OtherVersion { import: name.to_owned() });
        }
    }
    if kind.exports(engine).any(|(name, _)| name == POLICY) { Ok(()) } else { Err(MisfitError::NoPolicy) }
}

/// The interfaces that a component imports, without package and version.
pub fn names(engine: &Engine, component: &Component) -> Vec<String> {
    let kind = component.component_type();
    let short = |name: &str| name.strip_prefix(PACKAGE).unwrap_or(name).split('@').next().map(str::to_owned);
    kind.imports(engine).filter_map(|(name, _)| short(name)).collect()
}

fn unknown(import: &str) -> MisfitError {
    MisfitError::Unknown { import: import.to_owned(), have: INTERFACES.join(",") }
}
