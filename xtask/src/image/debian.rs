//! Packages of Debian's archive, for any architecture. apt fetches them, which checks the archive's signature and each file's digest, with a
//! configuration of its own: nothing on this machine is told of another architecture, and nothing is installed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::architecture::Architecture;
use super::tree::Entry;
use crate::cargo::{output, root, run, show, target};
use crate::setup;

/// A package with its files.
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it was built for; `all` if that is no matter.
    pub architecture: String,
    /// The digest of its file, SHA-256, in hexadecimal.
    pub sha256: String,
    /// Its entry, as `dpkg` writes it down where the package is installed.
    pub control: String,
    /// What it has: paths as in an image, whose `/bin`, `/lib` and so on are those of `/usr`.
    pub files: BTreeMap<String, Entry>,
}

/// Fetches packages of the versions that the archive has today, for a purpose that has a directory of this name. Without the archive those of the last time are taken, and that is said.
pub fn fetch(architecture: Architecture, purpose: &str, names: &[&str]) -> Result<Vec<Package>> {
    setup::programs(&[("apt-get", "apt"), ("dpkg-deb", "dpkg")])?;
    let place = target().join("tools/image/debian").join(architecture.name());
    let packages = place.join(purpose);
    if let Err(error) = refresh(&place, &packages, architecture, names) {
        ensure!(packages.is_dir(), "Debian's packages cannot be fetched: {error:#}");
        eprintln!("image: Debian's packages are those of the last build: {error:#}");
    }
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(&packages).with_context(|| packages.display().to_string())? {
        let package = read(&entry?.path())?;
        found.insert(package.name.clone(), package);
    }
    let take = |name: &&str| found.remove(*name).with_context(|| format!("there is no package {name}"));
    names.iter().map(take).collect()
}

/// Makes the directory have the packages of today, and no others.
fn refresh(place: &Path, packages: &Path, architecture: Architecture, names: &[&str]) -> Result<()> {
    let apt = Apt::prepare(place, architecture)?;
    run(apt.command().args(["update", "-q"]))?;
    let new = packages.with_extension("new");
    clear(&new)?;
    std::fs::create_dir_all(&new)?;
    run(apt.command().args(["download", "-q"]).args(names).current_dir(&new))?;
    clear(packages)?;
    std::fs::rename(&new, packages).with_context(|| packages.display().to_string())
}

fn clear(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// An apt that knows nothing of this machine's packages.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn prepare(place: &Path, architecture: Architecture) -> Result<Self> {
        for directory in ["state/lists/partial", "cache/archives/partial", "none"] {
            std::fs::create_dir_all(place.join(directory))?;
        }
        std::fs::write(place.join("state/status"), [])?;
        let at = |path: &str| place.join(path).display().to_string();
        let none = at("none");
        let settings = [
            ("Dir::State", at("state")),
            ("Dir::State::status", at("state/status")),
            ("Dir::Cache", at("cache")),
            ("Dir::Etc::sourcelist", root().join("deploy/image/sources.list").display().to_string()),
            ("Dir::Etc::sourceparts", none.clone()),
            ("Dir::Etc::preferences", at("none/preferences")),
            ("Dir::Etc::preferencesparts", none),
            ("APT::Architecture", architecture.name().to_owned()),
            ("APT::Architectures", architecture.name().to_owned()),
            // What only users of a desktop look at.
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false".to_owned()),
            // An index that is missing or old is an error, not a warning.
            ("APT::Update::Error-Mode", "any".to_owned()),
            // Its own user could not write below a home.
            ("APT::Sandbox::User", "root".to_owned()),
        ];
        Ok(Self { options: settings.map(|(name, value)| format!("-o{name}={value}")).to_vec() })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.args(&self.options);
        command
    }
}

fn read(file: &PathBuf) -> Result<Package> {
    let shown = || file.display().to_string();
    let control = output(Command::new("dpkg-deb").arg("--field").arg(file))?;
    let field = |name: &str| field(&control, name).with_context(|| format!("{}: no {name}", file.display()));
    let bytes = std::fs::read(file).with_context(shown)?;
    Ok(Package {
        name: field("Package")?,
        version: field("Version")?,
        architecture: field("Architecture")?,
        sha256: hex::encode(Sha256::digest(&bytes)),
        files: files(file).with_context(shown)?,
        control,
    })
}

/// A field of one line.
fn field(control: &str, name: &str) -> Option<String> {
    let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(": ")?.trim().to_owned());
    control.lines().find_map(value)
}

fn files(package: &Path) -> Result<BTreeMap<String, Entry>> {
    let mut command = Command::new("dpkg-deb");
    command.arg("--fsys-tarfile").arg(package);
    let unpacked = command.stderr(Stdio::inherit()).output().with_context(|| show(&command))?;
    ensure!(unpacked.status.success(), "`{}` failed ({})", show(&command), unpacked.status);
    read_archive(&unpacked.stdout)
}

fn read_archive(bytes: &[u8]) -> Result<BTreeMap<String, Entry>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let path = place(&entry.path()?.to_string_lossy());
        if path.is_empty() {
            continue;
        }
        let mode = entry.header().mode()?;
        let kind = entry.header().entry_type();
        let found = if kind.is_dir() {
            Entry::Directory(mode)
        } else if kind.is_symlink() {
            let target = entry.link_name()?.context("a link to nowhere")?;
            Entry::Link(target.to_string_lossy().into_owned())
        } else if kind.is_hard_link() {
            let target = place(&entry.link_name()?.context("a link to nowhere")?.to_string_lossy());
            files.get(&target).cloned().with_context(|| format!("{path} is {target}, which is not there"))?
        } else {
            ensure!(kind.is_file(), "{path} is neither file, directory nor link");
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content)?;
            Entry::File(mode, content)
        };
        files.insert(path, found);
    }
    Ok(files)
}

/// Where a package's file is in an image: `./lib/x` is `usr/lib/x`.
pub fn place(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_matches('/');
    let top = path.split('/').next().unwrap_or_default();
    let merged = ["bin", "lib", "lib64", "sbin"].contains(&top);
    if merged { format!("usr/{path}") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_top_level_are_found_below_usr() {
        for (path, at) in [
            ("./lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6"),
            ("/lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2"),
            ("./usr/sbin/nft", "usr/sbin/nft"),
            ("./library/x", "library/x"),
            ("./", ""),
        ] {
            assert_eq!(place(path), at, "{path}");
        }
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let control = "Package: libc6\nSource: glibc\nVersion: 2.36-9\nDescription: text\n Version: 1\n";
        assert_eq!(field(control, "Version").as_deref(), Some("2.36-9"));
        assert_eq!(field(control, "Sour"), None);
    }

    #[test]
    fn an_archive_is_read_with_its_links_and_modes() -> Result<()> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(1);
        archive.append_data(&mut header, "./sbin/a", &b"x"[..])?;
        header.set_size(0);
        for (kind, name, target) in
            [(tar::EntryType::Symlink, "./sbin/b", "a"), (tar::EntryType::Link, "./sbin/c", "./sbin/a")]
        {
            header.set_entry_type(kind);
            archive.append_link(&mut header, name, target)?;
        }
        let files = read_archive(&archive.into_inner()?)?;
        let file = Entry::File(0o755, b"x".to_vec());
        assert_eq!(files.get("usr/sbin/a"), Some(&file));
        assert_eq!(files.get("usr/sbin/b"), Some(&Entry::Link("a".to_owned())));
        assert_eq!(files.get("usr/sbin/c"), Some(&file));
        Ok(())
    }
}
