//! Reading files of which somebody else may have made something else: a pipe would keep its reader waiting for ever.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// The flag with which opening a pipe waits for nobody.
pub const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// Opens a regular file to read. Anything else is refused at once.
pub fn open(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(NONBLOCK).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
    }
}

/// Reads what there is of one, up to `max` bytes.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_a_directory_and_a_device_are_not() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("file");
        std::fs::write(&file, "12345").expect("written");
        assert_eq!(read(&file, 3).expect("read"), b"123");
        for other in [directory.path(), Path::new("/dev/zero")] {
            assert_eq!(read(other, 3).expect_err("refused").to_string(), "it is no regular file");
        }
    }

    #[test]
    fn a_pipe_that_nobody_writes_to_holds_up_nobody() {
        let directory = tempfile::tempdir().expect("directory");
        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
        assert!(made.success());
        assert_eq!(read(&pipe, 3).expect_err("refused").to_string(), "it is no regular file");
    }
}
