//! `deploy/image/recipe.toml`: what is in the image besides our own programs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::architecture::Architecture;

/// All of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The image's `PATH`.
    pub path: Vec<String>,
    /// The bundle of certificates.
    pub authorities: Authorities,
    /// Empty directories with their modes, in octal.
    pub directories: BTreeMap<String, Mode>,
    /// Empty files with their modes.
    pub empty_files: BTreeMap<String, Mode>,
    /// Links, from name to target.
    links: BTreeMap<String, String>,
    /// Debian's packages, and what is taken of each by itself.
    packages: BTreeMap<String, Vec<String>>,
}

/// Where the certificates of authorities are, and where they go.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorities {
    /// The bundle.
    pub file: String,
    /// The directory of the packages that has them one by one.
    pub from: String,
}

/// The mode of a file, written in octal.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Mode(pub u32);

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o7777 => Ok(Self(mode)),
            _ => Err(format!("{text} is no mode of a file, such as 755")),
        }
    }
}

impl Recipe {
    /// Reads it.
    pub fn read(file: &Path) -> Result<Self> {
        let shown = || file.display().to_string();
        Self::parse(&std::fs::read_to_string(file).with_context(shown)?).with_context(shown)
    }

    fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    /// The packages, in order.
    pub fn package_names(&self) -> Vec<&str> {
        self.packages.keys().map(String::as_str).collect()
    }

    /// What is taken for its own sake: package and path, which ends with a slash if it stands for all that is below.
    pub fn wanted(&self, architecture: Architecture) -> impl Iterator<Item = (&str, String)> {
        let multiarch = architecture.multiarch();
        self.packages.iter().flat_map(move |(package, paths)| {
            let multiarch = multiarch.clone();
            paths.iter().map(move |path| (package.as_str(), path.replace("{multiarch}", &multiarch)))
        })
    }

    /// The links to our own programs.
    pub fn own_links(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all_links().filter(|(_, to)| is_own(to))
    }

    /// The links that go with Debian's files.
    pub fn other_links(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all_links().filter(|(_, to)| !is_own(to))
    }

    fn all_links(&self) -> impl Iterator<Item = (&str, &str)> {
        self.links.iter().map(|(from, to)| (from.as_str(), to.as_str()))
    }
}

/// The programs of ours change with each version, and their layer with them.
fn is_own(target: &str) -> bool {
    target.rsplit('/').next() == Some("flanneld")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_of_this_project_can_be_read_and_has_what_manifests_call() -> Result<()> {
        let recipe = Recipe::read(&crate::cargo::root().join("deploy/image/recipe.toml"))?;
        let own: Vec<&str> = recipe.own_links().map(|(from, _)| from).collect();
        assert_eq!(own, ["opt/bin/install-conf", "opt/bin/mk-docker-opts.sh", "usr/bin/cp"]);
        assert!(
            recipe.wanted(Architecture::Arm64).any(|(_, path)| path == "usr/lib/aarch64-linux-gnu/xtables/")
        );
        Ok(())
    }

    #[test]
    fn a_mode_is_octal_and_nothing_else() {
        for (text, mode) in [("755", Some(0o755)), ("1777", Some(0o1777)), ("789", None), ("17777", None)] {
            assert_eq!(Mode::try_from(text.to_owned()).ok().map(|mode| mode.0), mode, "{text}");
        }
    }
}
