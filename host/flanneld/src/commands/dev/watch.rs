//! A project's sources: which of them have changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

/// Directories that builds fill; and whatever is hidden.
const BUILT: [&str; 3] = ["target", "node_modules", "__pycache__"];
/// Files that builds write.
const MADE: [&str; 4] = ["wasm", "cwasm", "o", "pyc"];

/// A file as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    changed: Option<SystemTime>,
    length: u64,
    /// A build may write what it has found: that is no change.
    content: Option<[u8; 32]>,
}

/// What a project's sources were when they were looked at last.
pub(super) struct Watch {
    directory: PathBuf,
    files: BTreeMap<PathBuf, Seen>,
}

impl Watch {
    pub(super) fn new(directory: &Path) -> Self {
        let files = look(directory, &BTreeMap::new());
        Self { directory: directory.to_owned(), files }
    }

    /// Waits until something is different, and no more so than a moment before: editors and version control write several files. Says what.
    pub(super) fn wait(&mut self, interval: Duration) -> String {
        loop {
            if let Some(changed) = self.changed() {
                loop {
                    std::thread::sleep(interval);
                    if self.changed().is_none() {
                        return changed;
                    }
                }
            }
            std::thread::sleep(interval);
        }
    }

    /// What has become different since this was asked last.
    fn changed(&mut self) -> Option<String> {
        let now = look(&self.directory, &self.files);
        let before = std::mem::replace(&mut self.files, now);
        let mut names: Vec<String> = Vec::new();
        for (file, seen) in &self.files {
            match before.get(file) {
                Some(former) if former.content == seen.content => {}
                Some(_) => names.push(format!("{} has changed", file.display())),
                None => names.push(format!("{} is new", file.display())),
            }
        }
        let gone = before.keys().filter(|file| !self.files.contains_key(*file));
        names.extend(gone.map(|file| format!("{} is gone", file.display())));
        let first = names.first()?;
        let more = names.len() - 1;
        Some(if more == 0 { first.clone() } else { format!("{first}, and {more} more") })
    }
}

/// All sources, with paths from the project. What has the time and the length that it had is not read again.
fn look(directory: &Path, before: &BTreeMap<PathBuf, Seen>) -> BTreeMap<PathBuf, Seen> {
    let mut files = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(inside) = waiting.pop() {
        // A directory that is going while it is looked at is none.
        for entry in std::fs::read_dir(directory.join(&inside)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name_text = name.to_string_lossy();
            if name_text.starts_with('.') || BUILT.contains(&&*name_text) {
                continue;
            }
            let path = inside.join(&name);
            // Links to directories are not followed: they may lead back.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(path);
                continue;
            }
            let is_made =
                path.extension().is_some_and(|extension| MADE.iter().any(|made| extension == *made));
            let full = directory.join(&path);
            let Some(found) = std::fs::metadata(&full).ok().filter(|found| found.is_file() && !is_made)
            else {
                continue;
            };
            let (changed, length) = (found.modified().ok(), found.len());
            let former = before.get(&path).filter(|seen| seen.changed == changed && seen.length == length);
            let seen = former.cloned().unwrap_or_else(|| {
                let content = std::fs::read(&full).ok().map(|content| Sha256::digest(content).into());
                Seen { changed, length, content }
            });
            files.insert(path, seen);
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_that_change_come_and_go_are_seen_and_what_builds_write_is_not() {
        let directory = tempfile::tempdir().expect("directory");
        let write = |name: &str, content: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            std::fs::write(path, content).expect("written");
        };
        write("policy.c", "one");
        let mut watch = Watch::new(directory.path());
        assert_eq!(watch.changed(), None);
        write("policy.c", "other");
        assert_eq!(watch.changed().as_deref(), Some("policy.c has changed"));
        // As a build does that writes what is there already.
        write("policy.c", "other");
        assert_eq!(watch.changed(), None);
        write("wit/world.wit", "");
        assert_eq!(watch.changed().as_deref(), Some("wit/world.wit is new"));
        for built in ["target/x", "node_modules/a/b.js", ".tools/y", "module.wasm", "policy.o"] {
            write(built, "built");
        }
        assert_eq!(watch.changed(), None);
        std::fs::remove_file(directory.path().join("policy.c")).expect("removed");
        std::fs::remove_dir_all(directory.path().join("wit")).expect("removed");
        assert_eq!(watch.changed().as_deref(), Some("policy.c is gone, and 1 more"));
        assert_eq!(watch.changed(), None);
    }
}
