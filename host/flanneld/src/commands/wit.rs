//! `flanneld plugin wit`: the contract, or another WIT package, for those who take packages from registries.

use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use flannel_plugin_host::{Registries, RegistryReference, WitPackage};
use wit_parser::{PackageId, Resolve, SourceMap};

use super::componentize::in_one_line;
use super::{output, publish, wait_for};
use crate::LANGUAGES;

/// Publishes a package, and signs it if there is a key.
pub(super) fn push(to: &RegistryReference, wit: Option<&Path>, key: Option<&Path>) -> anyhow::Result<()> {
    // Before anything is published.
    let key = key.map(publish::private_key).transpose()?;
    let (resolve, id) = wit.map_or_else(contract, written)?;
    let package = encoded(&resolve, id)?;
    check_tag(to, &package)?;
    let pushed = wait_for(Registries::of_this_node().push_wit(package, to, key.as_ref()))?;
    Ok(output::line(pushed.with_context(|| to.to_string())?)?)
}

/// The package in a directory.
fn written(directory: &Path) -> anyhow::Result<(Resolve, PackageId)> {
    let shown = directory.display();
    ensure!(
        directory.exists(),
        "--wit {shown} is not there; it is the directory with the package's .wit files"
    );
    let mut resolve = Resolve::default();
    let (id, _) = resolve
        .push_path(directory)
        .map_err(|error| anyhow!("--wit {shown}: {}", in_one_line(&format!("{error:#}"))))?;
    Ok((resolve, id))
}

/// The contract of this program, which projects are given.
fn contract() -> anyhow::Result<(Resolve, PackageId)> {
    let (mut files, mut resolve) = (SourceMap::default(), Resolve::default());
    let all =
        LANGUAGES.iter().find(|language| language.is("rust")).map_or(&[][..], |language| language.files);
    let is_wit = |place: &str| {
        let name = place.strip_prefix("sdk/rust/wit/").map(Path::new);
        name.is_some_and(|name| name.extension().is_some_and(|extension| extension == "wit"))
    };
    for (place, bytes) in all.iter().filter(|(place, _)| is_wit(place)) {
        files.push_str(place, String::from_utf8_lossy(bytes));
    }
    let wrong = |error: String| anyhow!("the contract: {}", in_one_line(&error));
    let group = files.parse().map_err(|(_, error)| wrong(error.to_string()))?;
    let id = resolve.push_group(group).map_err(|error| wrong(error.to_string()))?;
    Ok((resolve, id))
}

fn encoded(resolve: &Resolve, id: PackageId) -> anyhow::Result<WitPackage> {
    let package = &resolve.packages[id];
    let cannot = |error: anyhow::Error| {
        anyhow!("{} cannot be encoded: {}", package.name, in_one_line(&format!("{error:#}")))
    };
    let bytes = wit_component::encode(resolve, id).map_err(cannot)?;
    let interfaces = package.interfaces.values().filter_map(|interface| resolve.id_of(*interface)).collect();
    let name = format!("{}:{}", package.name.namespace, package.name.name);
    let version = package.name.version.as_ref().map(ToString::to_string);
    Ok(WitPackage { bytes, name, version, interfaces })
}

/// Who looks for a version looks for a tag of that name.
fn check_tag(to: &RegistryReference, package: &WitPackage) -> anyhow::Result<()> {
    let Some((tag, version)) = to.tag().zip(package.version.as_deref()) else { return Ok(()) };
    let is_version = semver::Version::parse(tag).is_ok();
    ensure!(
        !is_version || tag == version,
        "{to}: the tag is a version, and the package is {}@{version}: right would be the tag {version}",
        package.name
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use wit_component::{DecodedWasm, decode};

    use super::*;

    #[test]
    fn the_contract_is_a_package_with_all_its_interfaces_and_worlds() {
        let (resolve, id) = contract().expect("the contract");
        let package = encoded(&resolve, id).expect("encoded");
        assert_eq!((package.name.as_str(), package.version.as_deref()), ("flannel:backend", Some("0.1.0")));
        assert!(
            package.interfaces.iter().any(|one| one == "flannel:backend/policy@0.1.0"),
            "{:?}",
            package.interfaces
        );
        let Ok(DecodedWasm::WitPackage(decoded, its)) = decode(&package.bytes) else { panic!("a package") };
        let names = |resolve: &Resolve, id: PackageId| -> Vec<String> {
            let package = &resolve.packages[id];
            package.interfaces.keys().chain(package.worlds.keys()).cloned().collect()
        };
        let (mut ours, mut theirs) = (names(&resolve, id), names(&decoded, its));
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs);
    }
}
