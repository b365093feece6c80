//! Rendered configurations, kept for each container from `ADD` to `DEL`. Names and form of the files are those of upstream's plugin, which can
//! go on with ours, and we with its.

use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use flannel_base::atomic_file::{self, Mode};
use flannel_base::regular_file;
use serde_json::Value;

use crate::config::Object;
use crate::container_id::ContainerId;
use crate::error::{CniError, codes};

/// A rendered configuration is not nearly as long.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// The one member that is not the delegate's: the interface's name in the container, which `GC` is not told. Other plugins ignore it.
const IFNAME: &str = "flannel.ifname";

/// The directory of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SavedConfigs<'a>(pub(crate) &'a Path);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    /// The delegate's configuration, and the interface's name if it is known.
    Config(Object, Option<String>),
    /// It cannot be used, for this reason.
    Broken(String),
}

impl SavedConfigs<'_> {
    /// Keeps a configuration; it is there as a whole or not at all.
    pub(crate) fn save(self, container: &ContainerId, config: &Object, ifname: &str) -> Result<(), CniError> {
        let mut kept = config.clone();
        kept.insert(IFNAME.to_owned(), Value::from(ifname));
        let text = Value::Object(kept).to_string();
        let file = container.file_in(self.0);
        let written = self
            .make_directory()
            .and_then(|()| atomic_file::replace(&file, text.as_bytes(), Mode::Exactly(0o600)));
        written.map_err(|error| Self::failed(&format!("{} cannot be written", file.display()), &error))
    }

    /// What is kept for a container.
    pub(crate) fn read(self, container: &ContainerId) -> Result<Option<Saved>, CniError> {
        let file = container.file_in(self.0);
        match regular_file::read(&file, MAX_FILE_BYTES) {
            Ok(text) => Ok(Some(Saved::parse(&text, &file))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Self::failed(&format!("{} cannot be read", file.display()), &error)),
        }
    }

    /// Forgets what is kept for a container. That it was gone already is no error.
    pub(crate) fn remove(self, container: &ContainerId) -> Result<(), CniError> {
        let file = container.file_in(self.0);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Self::failed(&format!("{} cannot be removed", file.display()), &error))
            }
            _ => Ok(()),
        }
    }

    /// The containers for which something is kept, in order.
    pub(crate) fn containers(self) -> Result<Vec<ContainerId>, CniError> {
        let entries = match self.0.read_dir() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>),
        };
        let entries = entries
            .map_err(|error| Self::failed(&format!("{} cannot be listed", self.0.display()), &error))?;
        // What has no container's name is none of ours.
        let mut containers: Vec<ContainerId> =
            entries.iter().filter_map(|entry| ContainerId::parse(entry.file_name().to_str()?).ok()).collect();
        containers.sort();
        Ok(containers)
    }

    /// What is in it is for root alone; what it is in is others', too.
    fn make_directory(self) -> io::Result<()> {
        if let Some(parent) = self.0.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        match DirBuilder::new().mode(0o700).create(self.0) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    fn failed(what: &str, error: &io::Error) -> CniError {
        let hint = "dataDir has to be a directory that this plugin can write to";
        CniError::new(codes::IO, format!("{what}: {error}; {hint}"))
    }
}

impl Saved {
    fn parse(text: &[u8], file: &Path) -> Self {
        let mut config: Object = match serde_json::from_slice(text) {
            Ok(config) => config,
            Err(error) => return Self::Broken(format!("{} is no JSON object: {error}", file.display())),
        };
        let ifname = config.remove(IFNAME).and_then(|name| name.as_str().map(str::to_owned));
        match config.get("type") {
            Some(Value::String(_)) => Self::Config(config, ifname),
            _ => Self::Broken(format!("{} names no plugin as its type", file.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> Object {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn what_is_saved_is_for_root_alone_and_comes_back_until_it_is_removed() {
        let top = tempfile::tempdir().expect("directory");
        let directory = top.path().join("made/flannel");
        let saved = SavedConfigs(&directory);
        let id = ContainerId::parse("c1").expect("an ID");
        assert_eq!((saved.read(&id), saved.containers()), (Ok(None), Ok(Vec::new())));
        let config = object(&json!({"type": "bridge", "name": "cbr0"}));
        saved.save(&id, &config, "eth0").expect("saved");
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o7777;
        assert_eq!((mode(&directory), mode(&directory.join("c1"))), (0o700, 0o600));
        assert_eq!(mode(&top.path().join("made")) & 0o055, 0o055, "others have something beside it");
        assert_eq!(saved.read(&id), Ok(Some(Saved::Config(config, Some("eth0".to_owned())))));
        assert_eq!(saved.containers(), Ok(vec![id.clone()]));
        assert_eq!((saved.remove(&id), saved.remove(&id)), (Ok(()), Ok(())));
        assert_eq!(directory.read_dir().expect("listing").count(), 0);
    }

    #[test]
    fn what_upstreams_plugin_has_left_is_read_and_what_is_no_configuration_is_broken() {
        let directory = tempfile::tempdir().expect("directory");
        let saved = SavedConfigs(directory.path());
        let read = |text: &str| {
            std::fs::write(directory.path().join("c1"), text).expect("written");
            saved.read(&ContainerId::parse("c1").expect("an ID")).expect("read").expect("there")
        };
        let config = object(&json!({"type": "bridge"}));
        assert_eq!(read(r#"{"type":"bridge"}"#), Saved::Config(config, None));
        for broken in ["", "{", "[]", "{}", r#"{"type":5}"#] {
            let Saved::Broken(reason) = read(broken) else { panic!("{broken} is taken for a configuration") };
            assert!(reason.contains("c1"), "{reason}");
        }
    }

    #[test]
    fn names_that_no_container_has_are_not_listed() {
        let directory = tempfile::tempdir().expect("directory");
        for name in ["b", ".c1Xyz", "a", "-x"] {
            std::fs::write(directory.path().join(name), "{}").expect("written");
        }
        let names: Vec<_> = SavedConfigs(directory.path()).containers().expect("listed");
        assert_eq!(names.iter().map(ContainerId::as_str).collect::<Vec<_>>(), ["a", "b"]);
    }
}
