//! The subnet file, written as a whole as upstream does it, and read again after a restart. What is in it is in
//! [`flannel_model::subnet_file`].

use std::io;
use std::path::Path;

use flannel_base::atomic_file::{self, Mode};
use flannel_base::regular_file;
use flannel_model::lease::Subnets;
use flannel_model::network_config::NetworkConfig;
use flannel_model::subnet_file;
use ipnet::IpNet;
use tracing::warn;

/// A file longer than this is no subnet file.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// The mode of a new file: everybody may read it.
const NEW_FILE_MODE: u32 = 0o644;

/// What is or will be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetFile {
    text: String,
}

impl SubnetFile {
    /// The file for a node with these subnets. `mtu`: bytes of the largest IP packet of a pod. `ipmasq`: whether flanneld
    /// masquerades, so that the runtime need not.
    pub fn new(config: &NetworkConfig, subnets: &Subnets, mtu: u32, ipmasq: bool) -> Self {
        Self { text: subnet_file::text(config, subnets, mtu, ipmasq) }
    }

    /// Writes the file, see [`replace`].
    pub fn write(&self, path: &Path) -> io::Result<()> {
        replace(path, &self.text)
    }

    /// Whether this is what a file has. One that cannot be read has something else.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        read(path).is_ok_and(|bytes| bytes == self.text.as_bytes())
    }

    /// The subnets that an earlier run wrote; none if the file is not there or does not say. What is wrong in it costs the
    /// line that is wrong, not the file.
    pub fn read_previous(path: &Path) -> Option<Subnets> {
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(file = %path.display(), %error, "the subnet file cannot be read: the node may get another subnet");
                return None;
            }
        };
        let subnets = subnet_file::previous(&String::from_utf8_lossy(&bytes), |key, value| {
            warn!(key, value, "the subnet file has a value that is no subnet: left out");
        });
        if subnets.is_none() {
            warn!(file = %path.display(), "the subnet file names no subnet: the node may get another one");
        }
        subnets
    }

    /// The cluster networks that an earlier run wrote; none if the file is not there or cannot be read.
    pub(crate) fn networks(path: &Path) -> Vec<IpNet> {
        let bytes = read(path).unwrap_or_default();
        subnet_file::networks(&String::from_utf8_lossy(&bytes)).collect()
    }
}

/// Replaces a file as a whole, so that no reader sees half of it. A file that is there keeps its mode; a new one can be read
/// by all. Directories that are missing are made.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    atomic_file::replace(path, text.as_bytes(), Mode::KeepOr(NEW_FILE_MODE))
}

/// Why a subnet file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("subnet file {file}: cannot be read: {error}; flanneld writes it when the node has its subnet")]
pub struct SubnetFileError {
    file: String,
    error: io::Error,
}

/// All variables of a subnet file, in their order.
pub fn variables(path: &Path) -> Result<Vec<(String, String)>, SubnetFileError> {
    let bytes = read(path).map_err(|error| SubnetFileError { file: path.display().to_string(), error })?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(subnet_file::variables(&text).map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    regular_file::read(path, MAX_FILE_BYTES)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const DUAL: &str = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:5::/48"}"#;

    fn subnets(v4: &str, v6: &str) -> Subnets {
        Subnets { v4: v4.parse().ok(), v6: v6.parse().ok() }
    }

    fn file(config: &str, subnets: &Subnets) -> SubnetFile {
        SubnetFile::new(&NetworkConfig::parse(config).expect("config"), subnets, 1450, true)
    }

    #[test]
    fn the_networks_of_a_file_are_those_of_both_families() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("subnet.env");
        assert!(SubnetFile::networks(&path).is_empty());
        let text = "FLANNEL_NETWORK=10.4.0.0/16,10.5.0.0/16\nFLANNEL_SUBNET=10.5.1.1/24\nFLANNEL_IPV6_NETWORK=fc00:5::/48\nFLANNEL_NETWORK=x\n";
        std::fs::write(&path, text).expect("written");
        let expected = ["10.4.0.0/16", "10.5.0.0/16", "fc00:5::/48"].map(|net| net.parse().expect("prefix"));
        assert_eq!(SubnetFile::networks(&path), expected);
    }

    #[test]
    fn what_was_written_is_read_again() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("run/flannel/subnet.env");
        assert_eq!(SubnetFile::read_previous(&path), None);
        let subnets = subnets("10.5.60.0/24", "fc00:5:0:8::/64");
        file(DUAL, &subnets).write(&path).expect("written");
        assert_eq!(SubnetFile::read_previous(&path), Some(subnets));
        let mode = || path.metadata().expect("file").permissions().mode() & 0o7777;
        assert_eq!(mode(), 0o644);
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("mode");
        file(DUAL, &subnets).write(&path).expect("written over");
        assert_eq!(mode(), 0o600, "a mode that somebody chose is kept");
        let parent = path.parent().expect("parent");
        assert_eq!(parent.read_dir().expect("listing").count(), 1, "no temporary file is left");
    }
}
