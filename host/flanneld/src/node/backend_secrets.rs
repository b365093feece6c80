//! The secrets of the backends that the node is changing between. Leases and the record of the backend have digests in their place, and a
//! daemon that is killed in the middle needs them for the backend that the network config does not have any more.
//!
//! They are in a file of their own, for nobody but the daemon to read, and only as long as the change goes on.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use flannel_base::trusted_dir::TrustedDir;
use flannel_base::{Secret, trusted_file};
use flannel_model::network_config::NetworkConfig;
use tracing::warn;

const FILE: &str = "backend-secrets";
/// More than two sections have.
const MAX_BYTES: u64 = 1 << 20;

/// Writes down the `Backend` sections that have secrets; where none has, nothing is to be there.
pub(crate) fn write(state_dir: &Path, backends: &[&NetworkConfig]) {
    let secret = backends.iter().filter(|config| config.has_secrets());
    let sections: Vec<&str> = secret.map(|config| config.backend.get()).collect();
    if sections.is_empty() {
        return remove(state_dir);
    }
    if let Err(error) = replace(state_dir, &sections) {
        let file = state_dir.join(FILE);
        warn!(file = %file.display(), %error, "the backend's secrets cannot be written down: a daemon that is started again during the change begins with the new backend");
    }
}

/// The sections that a run before has written down.
pub(crate) fn read(state_dir: &Path) -> Vec<String> {
    let path = state_dir.join(FILE);
    match read_from(&path) {
        Ok(sections) => sections,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            warn!(file = %path.display(), %error, "the secrets of the backend before are not read");
            Vec::new()
        }
    }
}

/// No change goes on.
pub(crate) fn remove(state_dir: &Path) {
    let path = state_dir.join(FILE);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            warn!(file = %path.display(), %error, "the secrets of the backend before cannot be removed");
        }
        _ => {}
    }
}

fn replace(state_dir: &Path, sections: &[&str]) -> io::Result<()> {
    let text = Secret::new(serde_json::to_vec(sections)?);
    let directory = TrustedDir::make_shared(state_dir)?;
    directory.replace(FILE, |file| file.write_all(text.reveal())).map(drop)
}

/// Of a file that nobody else can have written or read.
fn read_from(path: &Path) -> io::Result<Vec<String>> {
    let file = trusted_file::open(path)?;
    let mode = file.metadata()?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(io::Error::other(format!("others may read it (mode {mode:o})")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let bytes = Secret::new(bytes);
    // What is there instead is not told.
    serde_json::from_slice(bytes.reveal()).map_err(|_| io::Error::other("it is damaged"))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    const SECTION: &str = r#"{"Type":"ali-vpc","AccessKeyID":"made-up","AccessKeySecret":"made up, too"}"#;

    fn config(backend: &str) -> NetworkConfig {
        let text = format!(r#"{{"Network":"10.5.0.0/16","Backend":{backend}}}"#);
        NetworkConfig::parse(&text).expect("valid")
    }

    /// A state directory with the secrets of a change in it.
    fn written() -> tempfile::TempDir {
        let state = tempfile::tempdir().expect("directory");
        write(state.path(), &[&config(SECTION), &config(r#"{"Type":"vxlan"}"#)]);
        state
    }

    #[test]
    fn what_has_secrets_is_there_for_the_daemon_alone_until_the_change_is_over() {
        let state = written();
        assert_eq!(read(state.path()), [SECTION]);
        let mode = state.path().join(FILE).metadata().expect("file").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        remove(state.path());
        remove(state.path());
        assert_eq!(state.path().read_dir().expect("listing").count(), 0);
        assert_eq!(read(state.path()), [""; 0]);
    }

    #[test]
    fn where_there_are_no_secrets_there_is_no_file() {
        let state = written();
        write(state.path(), &[&config(r#"{"Type":"host-gw"}"#), &config(r#"{"Type":"wireguard","PSK":""}"#)]);
        assert_eq!(state.path().read_dir().expect("listing").count(), 0, "nor one of a change before");
    }

    #[test]
    fn what_others_could_have_read_or_written_is_not_read() {
        for mode in [0o640, 0o604, 0o620, 0o666] {
            let state = written();
            let file = state.path().join(FILE);
            std::fs::set_permissions(&file, Permissions::from_mode(mode)).expect("mode");
            assert_eq!(read(state.path()), [""; 0], "{mode:o}");
        }
        let state = written();
        let (file, elsewhere) = (state.path().join(FILE), state.path().join("elsewhere"));
        std::fs::rename(&file, &elsewhere).expect("moved");
        if rustix::process::geteuid().is_root() {
            symlink(&elsewhere, &file).expect("link");
            chown(&elsewhere, Some(4321), None).expect("owner");
            assert_eq!(read(state.path()), [""; 0], "another user's");
            std::fs::remove_file(&file).expect("removed");
        }
        assert!(std::process::Command::new("mkfifo").arg(&file).status().expect("mkfifo").success());
        assert_eq!(read(state.path()), [""; 0], "a pipe, which is not waited for");
    }

    #[test]
    fn what_is_damaged_is_as_good_as_nothing() {
        for text in ["", "{", "7", "[7]", "{}"] {
            let state = written();
            std::fs::write(state.path().join(FILE), text).expect("written");
            assert_eq!(read(state.path()), [""; 0], "{text}");
        }
    }
}
