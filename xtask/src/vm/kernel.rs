//! Kernels for guests: Debian's packages, unpacked and never installed, or the one of this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{output, run, target};
use crate::setup;

/// Which kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// This machine's own.
    Host,
    /// Debian's cloud kernel of a series, such as `6.12`.
    Series(String),
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("host") {
            return Ok(Self::Host);
        }
        let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        match text.split_once('.') {
            Some((major, minor)) if number(major) && number(minor) => Ok(Self::Series(text.to_owned())),
            _ => Err("a series of Debian's kernels, such as 6.1 or 6.12, or `host`".to_owned()),
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Series(series) => f.write_str(series),
        }
    }
}

/// A kernel that is there.
pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    /// The image.
    pub image: PathBuf,
    /// The directory with its modules, and with `modules.dep`.
    pub modules: PathBuf,
}

/// Finds a kernel, or fetches it.
pub fn find(version: &Version) -> Result<Kernel> {
    match version {
        Version::Host => host(),
        Version::Series(series) => debian(series),
    }
}

fn host() -> Result<Kernel> {
    let release = output(Command::new("uname").arg("-r"))?;
    let image = PathBuf::from(format!("/boot/vmlinuz-{release}"));
    let modules = PathBuf::from(format!("/lib/modules/{release}"));
    ensure!(
        image.is_file() && modules.is_dir(),
        "this machine's own kernel is not to be had: it takes {} and {}",
        image.display(),
        modules.display()
    );
    Ok(Kernel { release, image, modules })
}

fn debian(series: &str) -> Result<Kernel> {
    let name = format!("kernel-{series}");
    if let Some(kernel) = unpacked_kernel(&target().join("tools").join(&name)) {
        return Ok(kernel);
    }
    let package = newest_package(series)?;
    let root = setup::unpacked(&name, &[&package], |root| release_in(root).is_some())?;
    let release = release_in(&root).context("a kernel package without modules")?;
    // Debian packages bring no list of what needs what: it is made where they are installed.
    let base = modules_in(&root).context("a kernel package without modules")?;
    let top = base.ancestors().nth(3).filter(|_| base.starts_with(&root)).unwrap_or(&root);
    run(Command::new(setup::program("depmod").context("no depmod: install kmod")?)
        .arg("-b")
        .arg(top)
        .arg(&release))?;
    unpacked_kernel(&root).with_context(|| format!("{package} has no kernel that can be started"))
}

/// The newest of Debian's cloud kernels of a series.
fn newest_package(series: &str) -> Result<String> {
    let pattern = format!("^linux-image-{}[.].*-cloud-amd64$", series.replace('.', "[.]"));
    let search = || output(Command::new("apt-cache").args(["search", "--names-only", &pattern]));
    if !crate::cargo::installed("apt-cache") {
        bail!("kernels are Debian's packages, and there is no apt-cache here");
    }
    let mut found = search()?;
    if found.is_empty() {
        setup::apt_update()?;
        found = search()?;
    }
    let packages = found.lines().filter_map(|line| line.split_once(' ')).map(|(name, _)| name);
    packages
        .filter(|name| !name.contains("-unsigned"))
        .max_by_key(|name| numbers(name))
        .map(ToOwned::to_owned)
        .with_context(|| {
            format!("no cloud kernel of the series {series} among this system's packages (linux-image-{series}…-cloud-amd64)")
        })
}

/// The numbers in a name, for comparison: `6.1.0-9` comes before `6.1.0-10`.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Modules are below `/lib`, or where `/lib` is `/usr/lib`, there.
fn modules_in(root: &Path) -> Option<PathBuf> {
    let mut places = ["lib/modules", "usr/lib/modules"].map(|place| root.join(place)).into_iter();
    places.find_map(|place| std::fs::read_dir(place).ok()?.flatten().map(|entry| entry.path()).next())
}

fn release_in(root: &Path) -> Option<String> {
    Some(modules_in(root)?.file_name()?.to_str()?.to_owned())
}

fn unpacked_kernel(root: &Path) -> Option<Kernel> {
    let (modules, release) = (modules_in(root)?, release_in(root)?);
    let image = root.join("boot").join(format!("vmlinuz-{release}"));
    let complete = image.is_file() && modules.join("modules.dep.bin").is_file();
    complete.then_some(Kernel { release, image, modules })
}

impl Kernel {
    /// The files of some modules and of all that they need, in the order in which they can be loaded. What is part of the kernel
    /// is none.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let listed = |file: &str| {
            let path = self.modules.join(file);
            std::fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let (loadable, built_in) = (listed("modules.dep")?, listed("modules.builtin")?);
        let needs: BTreeMap<String, (&str, Vec<&str>)> = loadable
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(file, needs)| (module_name(file), (file, needs.split_whitespace().collect())))
            .collect();
        let inside: Vec<String> = built_in.lines().map(module_name).collect();
        let mut order: Vec<PathBuf> = Vec::new();
        for name in names {
            if inside.iter().any(|module| module == name) {
                continue;
            }
            let (file, needed) =
                needs.get(*name).with_context(|| format!("Linux {} has no module {name}", self.release))?;
            // What is needed most comes last.
            for file in needed.iter().rev().chain([file]) {
                let path = self.modules.join(file);
                if !order.contains(&path) {
                    order.push(path);
                }
            }
        }
        Ok(order)
    }
}

/// `kernel/fs/fuse/virtiofs.ko.xz` is `virtiofs`.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}
