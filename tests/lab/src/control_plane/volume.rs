//! The volume with a service account's token, as the kubelet lays it out: all files change in one moment, and by a link that is renamed.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::ControlPlane;
use super::manifest::NAMESPACE;

/// Where pods have it.
pub const PLACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The link to the directory that has the files of now.
const DATA: &str = "..data";

/// A volume. Its files stay when this is dropped.
#[derive(Debug)]
pub struct Volume {
    directory: PathBuf,
    authority: String,
    namespace: String,
    generation: u32,
}

impl Volume {
    /// Makes one in a directory, with `token`, `ca.crt` and `namespace`.
    pub fn new(directory: &Path, plane: &ControlPlane, token: &str) -> Result<Self> {
        Self::in_namespace(NAMESPACE, directory, plane, token)
    }

    /// The same for a pod in another namespace than flannel's.
    pub fn in_namespace(
        namespace: &str,
        directory: &Path,
        plane: &ControlPlane,
        token: &str,
    ) -> Result<Self> {
        let (authority, namespace) = (plane.authority().to_owned(), namespace.to_owned());
        let mut volume = Self { directory: directory.to_owned(), authority, namespace, generation: 0 };
        volume.rotate(token)?;
        for name in volume.files(token).map(|(name, _)| name) {
            symlink(Path::new(DATA).join(name), directory.join(name))
                .with_context(|| format!("a link in {}", directory.display()))?;
        }
        Ok(volume)
    }

    /// Puts another token in the place of the one that is there.
    pub fn rotate(&mut self, token: &str) -> Result<()> {
        let data = |generation: u32| format!("..{generation}");
        let (old, new) = (data(self.generation), data(self.generation + 1));
        let place = self.directory.join(&new);
        fs::create_dir_all(&place).with_context(|| place.display().to_string())?;
        for (name, text) in self.files(token) {
            fs::write(place.join(name), text).with_context(|| place.join(name).display().to_string())?;
        }
        let link = self.directory.join("..data_tmp");
        symlink(&new, &link).with_context(|| link.display().to_string())?;
        fs::rename(&link, self.directory.join(DATA)).with_context(|| link.display().to_string())?;
        self.generation += 1;
        match fs::remove_dir_all(self.directory.join(old)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("the old token"),
            _ => Ok(()),
        }
    }

    fn files<'a>(&'a self, token: &'a str) -> [(&'static str, &'a str); 3] {
        [("token", token), ("ca.crt", &self.authority), ("namespace", &self.namespace)]
    }
}
