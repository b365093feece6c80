//! What is taken of Debian's packages: what the recipe names, and all that this needs to start.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use super::architecture::Architecture;
use super::authorities;
use super::debian::{Package, place};
use super::elf;
use super::recipe::Recipe;
use super::tree::{Entry, Tree};

/// How many links may lead from one to the other.
const LINKS: usize = 8;

/// The layer of all that is not ours.
pub fn tree(recipe: &Recipe, architecture: Architecture, packages: &[Package]) -> Result<Tree> {
    let mut taking = Taking {
        packages,
        multiarch: architecture.multiarch(),
        tree: Tree::default(),
        used: BTreeSet::new(),
    };
    for (package, path) in recipe.wanted(architecture) {
        taking.wanted(package, &path)?;
    }
    taking.authorities(recipe)?;
    for package in packages {
        taking.papers(package)?;
    }
    let mut tree = taking.tree;
    for (path, mode) in &recipe.directories {
        tree.add(path, Entry::Directory(mode.0))?;
    }
    for (path, mode) in &recipe.empty_files {
        tree.file(path, mode.0, Vec::new())?;
    }
    for (from, to) in recipe.other_links() {
        tree.link(from, to)?;
    }
    Ok(tree)
}

struct Taking<'a> {
    packages: &'a [Package],
    multiarch: String,
    tree: Tree,
    /// Packages of which something is taken.
    used: BTreeSet<&'a str>,
}

impl<'a> Taking<'a> {
    /// What the recipe names.
    fn wanted(&mut self, name: &str, path: &str) -> Result<()> {
        let package = self.packages.iter().find(|package| package.name == name);
        let package = package.with_context(|| format!("there is no package {name}"))?;
        let Some(directory) = path.strip_suffix('/') else {
            ensure!(package.files.contains_key(path), "{name} has no {path}");
            return self.take(path);
        };
        let below = |path: &&String| path.starts_with(directory) && path[directory.len()..].starts_with('/');
        let mut paths = package.files.keys().filter(below).peekable();
        ensure!(paths.peek().is_some(), "{name} has nothing in {path}");
        paths.try_for_each(|path| self.take(path))
    }

    /// A file with all that it needs, or a link with what it leads to.
    fn take(&mut self, path: &str) -> Result<()> {
        if self.tree.get(path).is_some() {
            return Ok(());
        }
        let (package, entry) = self.find(path).with_context(|| format!("no package has {path}"))?;
        self.tree.add(path, entry.clone())?;
        self.used.insert(package);
        match entry {
            Entry::Directory(_) => Ok(()),
            Entry::Link(target) => self.take(&resolve(path, target)?),
            Entry::File(_, content) => {
                let needs = elf::needs(content).with_context(|| path.to_owned())?;
                let library = |name: &String| format!("usr/lib/{}/{name}", self.multiarch);
                let libraries = needs.libraries.iter().map(library).collect::<Vec<_>>();
                let all = needs.loader.iter().map(|path| place(path)).chain(libraries);
                // The loader is a library, too, by another path.
                let all: Vec<String> = all.map(|needed| self.elsewhere(needed)).collect();
                all.iter()
                    .try_for_each(|needed| self.take(needed))
                    .with_context(|| format!("{path} needs it"))
            }
        }
    }

    /// Where a library is that is not with the others.
    fn elsewhere(&self, needed: String) -> String {
        if self.find(&needed).is_some() {
            return needed;
        }
        let name = needed.rsplit('/').next().unwrap_or(&needed);
        let places = ["usr/lib", "usr/lib64"].map(|place| format!("{place}/{name}"));
        places.into_iter().find(|place| self.find(place).is_some()).unwrap_or(needed)
    }

    fn find(&self, path: &str) -> Option<(&'a str, &'a Entry)> {
        let has = |package: &'a Package| Some((package.name.as_str(), package.files.get(path)?));
        self.packages.iter().find_map(has)
    }

    fn authorities(&mut self, recipe: &Recipe) -> Result<()> {
        let mut certificates = Vec::new();
        for package in self.packages {
            for (path, entry) in &package.files {
                if let Entry::File(_, content) = entry
                    && path.starts_with(&recipe.authorities.from)
                {
                    self.used.insert(&package.name);
                    certificates.push(content.as_slice());
                }
            }
        }
        self.tree.file(&recipe.authorities.file, 0o644, authorities::bundle(certificates.into_iter())?)
    }

    /// What a package's licence asks for, and what scanners of images look for where there is no `dpkg`.
    fn papers(&mut self, package: &'a Package) -> Result<()> {
        let name = &package.name;
        ensure!(self.used.contains(name.as_str()), "nothing needs {name}: it has no place in the recipe");
        let copyright = self.copyright(package).with_context(|| format!("{name} has no copyright file"))?;
        self.tree.file(&format!("usr/share/doc/{name}/copyright"), 0o644, copyright)?;
        let control = format!("{}\n", package.control);
        self.tree.file(&format!("var/lib/dpkg/status.d/{name}"), 0o644, control.into_bytes())
    }

    /// Packages of one source share a directory, by a link.
    fn copyright(&self, package: &Package) -> Option<Vec<u8>> {
        let mut directory = format!("usr/share/doc/{}", package.name);
        for _ in 0..LINKS {
            match self.find(&format!("{directory}/copyright")) {
                Some((_, Entry::File(_, content))) => return Some(content.clone()),
                Some((_, Entry::Link(to))) => {
                    let to = resolve(&format!("{directory}/copyright"), to).ok()?;
                    to.strip_suffix("/copyright")?.clone_into(&mut directory);
                }
                _ => match self.find(&directory)?.1 {
                    Entry::Link(to) => directory = resolve(&directory, to).ok()?,
                    _ => return None,
                },
            }
        }
        None
    }
}

/// Where a link leads to.
fn resolve(link: &str, target: &str) -> Result<String> {
    let mut parts: Vec<&str> = match target.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => link.split('/').collect(),
    };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().with_context(|| format!("{link} leads out of the image: {target}"))?;
            }
            part => parts.push(part),
        }
    }
    Ok(place(&parts.join("/")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use anyhow::bail;

    use super::*;

    fn package(name: &str, files: &[(&str, Entry)]) -> Package {
        let mut all: BTreeMap<String, Entry> =
            files.iter().map(|(path, entry)| ((*path).to_owned(), entry.clone())).collect();
        all.insert(format!("usr/share/doc/{name}/copyright"), text("GPL-2"));
        Package {
            name: name.to_owned(),
            version: "1".to_owned(),
            architecture: "amd64".to_owned(),
            sha256: String::new(),
            control: format!("Package: {name}"),
            files: all,
        }
    }

    fn text(content: &str) -> Entry {
        Entry::File(0o755, content.as_bytes().to_vec())
    }

    fn recipe(packages: &str) -> Result<Recipe> {
        Ok(toml::from_str(&format!(
            "path = []\n[authorities]\nfile = 'etc/ca.crt'\nfrom = 'certificates/'\n[directories]\n[empty_files]\n[links]\n[packages]\n{packages}"
        ))?)
    }

    fn made(recipe: &Recipe, packages: &[Package]) -> Result<Vec<String>> {
        let tree = tree(recipe, Architecture::Amd64, packages)?;
        Ok(tree.iter().map(|(path, _)| path.to_owned()).collect())
    }

    #[test]
    fn what_is_named_comes_with_what_it_leads_to_and_needs_and_nothing_else() -> Result<()> {
        let program = Entry::File(0o755, std::fs::read(std::env::current_exe()?)?);
        let Entry::File(_, content) = &program else { bail!("a file") };
        let needs = elf::needs(content)?;
        let library = |name: &String| (format!("usr/lib/x86_64-linux-gnu/{name}"), text("library"));
        let mut files: Vec<(String, Entry)> = needs.libraries.iter().map(library).collect();
        files.extend(needs.loader.iter().map(|path| (place(path), Entry::Link("/lib/loader".to_owned()))));
        files.push(("usr/lib/loader".to_owned(), text("loader")));
        files.push(("usr/lib/x86_64-linux-gnu/libunused.so".to_owned(), text("unused")));
        let files: Vec<(&str, Entry)> =
            files.iter().map(|(path, entry)| (path.as_str(), entry.clone())).collect();
        let packages = [
            package("libc6", &files),
            package(
                "nft",
                &[("usr/sbin/nft", Entry::Link("multi".to_owned())), ("usr/sbin/multi", program.clone())],
            ),
            package("ca", &[("certificates/a.crt", text("a"))]),
        ];
        let paths = made(&recipe("libc6 = []\nnft = ['usr/sbin/nft']\nca = []")?, &packages)?;
        for needed in [
            "usr/sbin/nft",
            "usr/sbin/multi",
            "usr/lib/loader",
            "usr/lib/x86_64-linux-gnu/libc.so.6",
            "etc/ca.crt",
        ] {
            assert!(paths.iter().any(|path| path == needed), "{needed} is not among {paths:?}");
        }
        assert!(
            !paths.iter().any(|path| path.contains("unused") || path.starts_with("certificates")),
            "{paths:?}"
        );
        Ok(())
    }

    #[test]
    fn what_is_needed_and_not_there_is_an_error_and_so_is_a_package_without_a_use() -> Result<()> {
        let ca = || package("ca", &[("certificates/a.crt", text("a"))]);
        let program = Entry::File(0o755, std::fs::read(std::env::current_exe()?)?);
        let alone = [package("nft", &[("usr/sbin/nft", program)]), ca()];
        let error = made(&recipe("ca = []\nnft = ['usr/sbin/nft']")?, &alone)
            .err()
            .context("made without libraries")?;
        assert!(format!("{error:#}").contains("usr/sbin/nft needs it: no package has usr/lib"), "{error:#}");
        let unused = [package("nft", &[("usr/sbin/nft", text("#!"))]), ca()];
        let error =
            made(&recipe("ca = []\nnft = []")?, &unused).err().context("made with what nobody needs")?;
        assert_eq!(error.to_string(), "nothing needs nft: it has no place in the recipe");
        Ok(())
    }

    #[test]
    fn links_lead_where_they_would_in_the_image() -> Result<()> {
        for (link, target, place) in [
            ("usr/lib64/ld.so", "/lib/x/ld.so", "usr/lib/x/ld.so"),
            ("usr/sbin/a", "b", "usr/sbin/b"),
            ("etc/os-release", "../usr/lib/os-release", "usr/lib/os-release"),
        ] {
            assert_eq!(resolve(link, target)?, place, "{link} to {target}");
        }
        assert!(resolve("a", "../../b").is_err());
        Ok(())
    }
}
