//! `cp`, as manifests call it to put the CNI plugin and its configuration on the node.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::copy::{CopyError, copy};

/// Why nothing, or not all, is copied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CpError {
    /// An option that we do not know.
    #[error("{0}: no such option here; right would be: cp [-f] SOURCE... DESTINATION")]
    Option(String),
    /// Too few arguments.
    #[error("a source and a destination are needed: cp [-f] SOURCE... DESTINATION")]
    Usage,
    /// Several sources have one place to go to.
    #[error("{0}: no directory, as it has to be for several sources")]
    NoDirectory(PathBuf),
    /// A source without a name to have in a directory.
    #[error("{0}: it has no name to be copied under")]
    NoName(PathBuf),
    /// Some of the files, each with its reason.
    #[error("{0}")]
    Failed(String),
}

/// Copies files over a file, or into a directory. `-f` is how it always is: what is there is replaced.
pub(crate) fn run(arguments: &[OsString]) -> Result<(), CpError> {
    let (mut files, mut options) = (Vec::new(), true);
    for argument in arguments {
        match argument.to_str() {
            Some("--") if options => options = false,
            Some("-f" | "--force") if options => {}
            Some(option) if options && option.len() > 1 && option.starts_with('-') => {
                return Err(CpError::Option(option.to_owned()));
            }
            _ => files.push(Path::new(argument)),
        }
    }
    let Some((to, sources)) = files.split_last().filter(|(_, sources)| !sources.is_empty()) else {
        return Err(CpError::Usage);
    };
    if sources.len() > 1 && !to.is_dir() {
        return Err(CpError::NoDirectory((*to).to_owned()));
    }
    let mut failures = Vec::new();
    for source in sources {
        let outcome = place(source, to).map(|place| copy(source, &place));
        failures.extend(match outcome {
            Err(error) => Some(error.to_string()),
            Ok(copied) => copied.err().as_ref().map(CopyError::to_string),
        });
    }
    if failures.is_empty() { Ok(()) } else { Err(CpError::Failed(failures.join("; "))) }
}

/// Where a source goes.
fn place(source: &Path, to: &Path) -> Result<PathBuf, CpError> {
    if !to.is_dir() {
        return Ok(to.to_owned());
    }
    let name: &OsStr = source.file_name().ok_or_else(|| CpError::NoName(source.to_owned()))?;
    Ok(to.join(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn cp(directory: &Path, arguments: &[&str]) -> Result<(), CpError> {
        let placed = |argument: &&str| match *argument {
            option if option.starts_with('-') => OsString::from(option),
            file => directory.join(file).into(),
        };
        run(&arguments.iter().map(placed).collect::<Vec<_>>())
    }

    #[test]
    fn files_go_over_a_file_or_into_a_directory_with_their_modes() {
        let top = tempfile::tempdir().expect("directory");
        let read = |name: &str| std::fs::read_to_string(top.path().join(name)).expect("copied");
        for name in ["flannel", "conf"] {
            std::fs::write(top.path().join(name), name).expect("written");
        }
        std::fs::set_permissions(top.path().join("flannel"), std::fs::Permissions::from_mode(0o755))
            .expect("mode");
        std::fs::create_dir(top.path().join("bin")).expect("made");
        assert_eq!(cp(top.path(), &["-f", "flannel", "bin/flannel"]), Ok(()));
        assert_eq!(cp(top.path(), &["conf", "bin/flannel"]), Ok(()));
        assert_eq!(read("bin/flannel"), "conf");
        assert_eq!(cp(top.path(), &["--force", "--", "flannel", "conf", "bin"]), Ok(()));
        assert_eq!((read("bin/flannel"), read("bin/conf")), ("flannel".to_owned(), "conf".to_owned()));
        let mode = top.path().join("bin/flannel").metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }

    #[test]
    fn what_it_cannot_do_is_said() {
        let top = tempfile::tempdir().expect("directory");
        std::fs::write(top.path().join("a"), "a").expect("written");
        std::fs::create_dir(top.path().join("bin")).expect("made");
        assert_eq!(cp(top.path(), &["-r", "a", "b"]), Err(CpError::Option("-r".to_owned())));
        assert_eq!(cp(top.path(), &["-f", "a"]), Err(CpError::Usage));
        assert_eq!(cp(top.path(), &["a", "a", "b"]), Err(CpError::NoDirectory(top.path().join("b"))));
        for wrong in ["none", "..", "bin"] {
            let Err(CpError::Failed(text)) = cp(top.path(), &[wrong, "a", "bin"]) else {
                panic!("it copied {wrong}");
            };
            assert!(text.contains(wrong), "{text}");
            std::fs::remove_file(top.path().join("bin/a")).expect("the other one is copied");
        }
    }
}
