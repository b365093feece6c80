//! The files of a layer, in order.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

/// The modes of directories that nobody has asked for.
const DIRECTORY: u32 = 0o755;

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory with this mode.
    Directory(u32),
    /// A file with this mode and content.
    File(u32, Vec<u8>),
    /// A symbolic link to this target.
    Link(String),
}

/// Files by their paths from the root, without a slash at either end. A directory comes before what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<String, Entry>);

impl Tree {
    /// Adds something, and the directories that it is in. What is there already may be added again, and nothing else in its place.
    pub fn add(&mut self, path: &str, entry: Entry) -> Result<()> {
        ensure!(
            !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | "..")),
            "{path:?} is no path of a file in an image"
        );
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            match self.0.get(parent) {
                Some(Entry::Directory(_)) => {}
                Some(_) => bail!("{path} is in {parent}, which is no directory"),
                None => {
                    self.0.insert(parent.to_owned(), Entry::Directory(DIRECTORY));
                }
            }
        }
        match self.0.get(path) {
            Some(there) if *there != entry => bail!("there are two different {path}"),
            _ => {
                self.0.insert(path.to_owned(), entry);
            }
        }
        Ok(())
    }

    /// Adds a file that can be run.
    pub fn program(&mut self, path: &str, content: Vec<u8>) -> Result<()> {
        self.file(path, 0o755, content)
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, content: Vec<u8>) -> Result<()> {
        self.add(path, Entry::File(mode, content))
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.add(path, Entry::Link(target.to_owned()))
    }

    /// What is at a path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.0.get(path)
    }

    /// All of it, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_str(), entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_before_what_is_in_them() -> Result<()> {
        let mut tree = Tree::default();
        tree.file("a/b/c", 0o644, Vec::new())?;
        tree.file("a-b", 0o644, Vec::new())?;
        let paths: Vec<&str> = tree.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["a", "a-b", "a/b", "a/b/c"]);
        Ok(())
    }

    #[test]
    fn nothing_is_put_outside_below_a_file_or_over_something_else() -> Result<()> {
        let mut tree = Tree::default();
        tree.link("lib", "usr/lib")?;
        tree.link("lib", "usr/lib")?;
        for path in ["", "/etc", "a/../b", "a//b", "./a", "a/", "lib/x"] {
            assert!(tree.file(path, 0o644, Vec::new()).is_err(), "{path}");
        }
        assert!(tree.link("lib", "elsewhere").is_err());
        assert_eq!(tree.iter().count(), 1);
        Ok(())
    }
}
