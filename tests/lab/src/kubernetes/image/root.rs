//! What is in an image: programs of this machine, with the libraries that they need, at the places where these are here.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// A directory that will be the root of containers.
pub struct Root {
    path: PathBuf,
}

impl Root {
    /// Makes one, with the directories that are mounted on.
    pub fn new(path: &Path) -> Result<Self> {
        for directory in ["bin", "dev", "etc", "proc", "run", "sys", "tmp"] {
            fs::create_dir_all(path.join(directory)).with_context(|| path.display().to_string())?;
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Copies a file, with its permissions.
    pub fn copy(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.place(to)?;
        fs::copy(from, &to).with_context(|| format!("{} to {}", from.display(), to.display()))?;
        Ok(())
    }

    /// Copies a program, or a library, and all libraries that it needs.
    pub fn copy_with_libraries(&self, from: &Path, to: &str) -> Result<()> {
        self.copy(from, to)?;
        let output = Command::new("ldd").arg(from).output().context("cannot run ldd")?;
        // What needs none says so, and fails.
        for library in libraries(&String::from_utf8_lossy(&output.stdout)) {
            let place = library.trim_start_matches('/');
            if !self.path.join(place).exists() {
                self.copy(Path::new(library), place)?;
            }
        }
        Ok(())
    }

    /// Makes a link.
    pub fn link(&self, target: &str, at: &str) -> Result<()> {
        symlink(target, self.place(at)?).with_context(|| at.to_owned())
    }

    /// A place for a file, in a directory that is there.
    fn place(&self, at: &str) -> Result<PathBuf> {
        let place = self.path.join(at);
        let directory = place.parent().context("a file is in a directory")?;
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        Ok(place)
    }
}

/// The files that `ldd` names: `libc.so.6 => /lib/…/libc.so.6 (0x…)`, and the loader, without an arrow.
fn libraries(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        let file = line.split_once("=> ").map_or(line, |(_, file)| file);
        file.split(' ').next().filter(|file| file.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_libraries_of_a_program_and_its_loader_are_found_in_what_ldd_says() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld.so (0x3)\n";
        assert_eq!(super::libraries(text).collect::<Vec<_>>(), ["/lib/libc.so.6", "/lib64/ld.so"]);
        assert_eq!(super::libraries("\tnot a dynamic executable\n").count(), 0);
    }
}
