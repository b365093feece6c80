//! Names of containers, which become names of files here.

use std::path::{Path, PathBuf};

use crate::error::{CniError, codes};

/// A container's ID that the specification allows (section 3): a letter or digit, then letters, digits, `_`, `.` and `-`. So it is a file's name
/// and no way to another directory, and no name of a hidden file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ContainerId(String);

impl ContainerId {
    /// Takes a text that is one.
    pub(crate) fn parse(text: &str) -> Result<Self, CniError> {
        if is_name(text) {
            return Ok(Self(text.to_owned()));
        }
        let wrong = format!(
            "CNI_CONTAINERID is {text:?}: right would be a letter or digit, then letters, digits, '_', '.' or '-'"
        );
        Err(CniError::new(codes::ENVIRONMENT, wrong))
    }

    /// The file of this container in a directory.
    pub(crate) fn file_in(&self, directory: &Path) -> PathBuf {
        directory.join(&self.0)
    }

    /// As it was given.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a text has the form that the specification has for containers' IDs and networks' names.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_name_of_a_file_in_the_directory_and_of_no_other() {
        for right in ["a", "0", "c6e9_x.y-z", "a..b", &"f".repeat(64)] {
            let id = ContainerId::parse(right).expect(right);
            assert_eq!(id.file_in(Path::new("/dir")), Path::new("/dir").join(right));
        }
        for wrong in [
            "",
            ".",
            "..",
            "../a",
            "/etc/passwd",
            "a/b",
            ".hidden",
            "-f",
            "_a",
            "a b",
            "a\n",
            "a\0",
            "é",
            "a\\b",
        ] {
            let error = ContainerId::parse(wrong).expect_err(wrong);
            assert!(error.code == codes::ENVIRONMENT && error.msg.contains("CNI_CONTAINERID"), "{error}");
        }
    }
}
