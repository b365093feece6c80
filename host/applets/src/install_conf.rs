//! `install-conf SOURCE DESTINATION`: upstream's program by which an init container puts the CNI configuration on the node.

use std::ffi::OsString;
use std::path::Path;

use super::copy::{CopyError, copy};

/// Why nothing is installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// Not two arguments.
    #[error("two arguments are needed: install-conf SOURCE DESTINATION")]
    Usage,
    /// The copy failed.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

/// Copies the one file over the other.
pub(crate) fn run(arguments: &[OsString]) -> Result<(), InstallError> {
    let [source, destination] = arguments else { return Err(InstallError::Usage) };
    Ok(copy(Path::new(source), Path::new(destination))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_arguments_are_a_copy_and_any_other_number_is_refused() {
        let directory = tempfile::tempdir().expect("directory");
        let [source, copy] = ["cni-conf.json", "10-flannel.conflist"].map(|name| directory.path().join(name));
        std::fs::write(&source, "{}").expect("written");
        let arguments = [source.into_os_string(), copy.clone().into_os_string()];
        run(&arguments).expect("installed");
        assert_eq!(std::fs::read(&copy).expect("read"), b"{}");
        for number in [0, 1] {
            assert!(matches!(run(&arguments[..number]), Err(InstallError::Usage)));
        }
        let three = [&arguments[..], &arguments[..1]].concat();
        assert!(matches!(run(&three), Err(InstallError::Usage)));
    }

    #[test]
    fn a_directory_is_no_destination() {
        let directory = tempfile::tempdir().expect("directory");
        let source = directory.path().join("a");
        std::fs::write(&source, "{}").expect("written");
        std::fs::create_dir(directory.path().join("net.d")).expect("made");
        let arguments = [source.into_os_string(), directory.path().join("net.d").into_os_string()];
        assert!(matches!(run(&arguments), Err(InstallError::Copy(_))));
    }
}
