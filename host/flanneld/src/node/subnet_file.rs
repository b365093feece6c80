//! The subnet file: what container runtimes read to know this node's subnet, as lines of `KEY=value`.
//!
//! Its lines, their order and its atomic replacement are upstream's. It is also where the node looks up, after a restart,
//! which subnets it had.

use std::fmt::Write as _;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use flannel_model::lease::Subnets;
use flannel_model::network_config::NetworkConfig;
use ipnet::{Ipv4Net, Ipv6Net};
use tracing::warn;

/// A file longer than this is no subnet file.
const LONGEST: u64 = 64 * 1024;
/// The mode of a new file: everybody may read it.
const MODE: u32 = 0o644;

/// What is or will be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetFile {
    text: String,
}

impl SubnetFile {
    /// The file for a node with these subnets. `mtu`: bytes of the largest IP packet of a pod. `ipmasq`: whether flanneld
    /// masquerades, so that the runtime need not.
    pub fn new(config: &NetworkConfig, subnets: &Subnets, mtu: u32, ipmasq: bool) -> Self {
        let mut text = String::new();
        // The address is an interface's, the first of the subnet that is not the network's own.
        if let (true, Some(network), Some(subnet)) = (config.enable_ipv4, config.network, subnets.v4) {
            let first = Ipv4Addr::from_bits(subnet.addr().to_bits().wrapping_add(1));
            let _ = writeln!(text, "FLANNEL_NETWORK={network}");
            let _ = writeln!(text, "FLANNEL_SUBNET={first}/{}", subnet.prefix_len());
        }
        if let (true, Some(network), Some(subnet)) = (config.enable_ipv6, config.ipv6_network, subnets.v6) {
            let first = Ipv6Addr::from_bits(subnet.addr().to_bits().wrapping_add(1));
            let _ = writeln!(text, "FLANNEL_IPV6_NETWORK={network}");
            let _ = writeln!(text, "FLANNEL_IPV6_SUBNET={first}/{}", subnet.prefix_len());
        }
        let _ = writeln!(text, "FLANNEL_MTU={mtu}");
        let _ = writeln!(text, "FLANNEL_IPMASQ={ipmasq}");
        Self { text }
    }

    /// Writes the file, see [`replace`].
    pub fn write(&self, path: &Path) -> io::Result<()> {
        replace(path, &self.text)
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
        let subnets = previous(&String::from_utf8_lossy(&bytes));
        if subnets.is_none() {
            warn!(file = %path.display(), "the subnet file names no subnet: the node may get another one");
        }
        subnets
    }
}

/// Replaces a file as a whole, so that no reader sees half of it. A file that is there keeps its mode; a new one can be read
/// by all. Directories that are missing are made.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has no name")),
    };
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    let mode = match path.metadata() {
        Ok(found) if found.is_file() => found.permissions().mode() & 0o7777,
        _ => MODE,
    };
    let mut file = tempfile::Builder::new().prefix(".subnet.env").tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The new name survives a power failure only when the directory is on disk. Not every file system can.
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
    Ok(())
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
    Ok(text.lines().filter_map(assignment).map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn previous(text: &str) -> Option<Subnets> {
    let (mut v4, mut v6) = (None, None);
    for (key, value) in text.lines().filter_map(assignment) {
        match key {
            "FLANNEL_SUBNET" => v4 = single(key, value).map(|net: Ipv4Net| net.trunc()),
            "FLANNEL_IPV6_SUBNET" => v6 = single(key, value).map(|net: Ipv6Net| net.trunc()),
            _ => {}
        }
    }
    (v4.is_some() || v6.is_some()).then_some(Subnets { v4, v6 })
}

/// One line as shells and dotenv files write it: `export`, quotes and a comment at the end may be there.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let line =
        line.strip_prefix("export").filter(|rest| rest.starts_with(char::is_whitespace)).unwrap_or(line);
    let (key, value) = line.split_once('=')?;
    let value = value.trim();
    let value = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].split(quote).next()?,
        _ => value.split(char::is_whitespace).next()?,
    };
    Some((key.trim(), value))
}

/// The one subnet of a list; older versions wrote several, of which none is the previous one.
fn single<T: std::str::FromStr>(key: &str, value: &str) -> Option<T> {
    let mut valid = value.split(',').filter_map(|part| {
        let parsed = part.trim().parse().ok();
        if parsed.is_none() {
            warn!(key, value = part, "the subnet file has a value that is no subnet: left out");
        }
        parsed
    });
    valid.next().filter(|_| valid.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUAL: &str = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:5::/48"}"#;

    fn subnets(v4: &str, v6: &str) -> Subnets {
        Subnets { v4: v4.parse().ok(), v6: v6.parse().ok() }
    }

    fn file(config: &str, subnets: &Subnets) -> SubnetFile {
        SubnetFile::new(&NetworkConfig::parse(config).expect("config"), subnets, 1450, true)
    }

    #[test]
    fn lines_are_upstreams() {
        assert_eq!(
            file(DUAL, &subnets("10.5.60.0/24", "fc00:5:0:8::/64")).text,
            "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.60.1/24\nFLANNEL_IPV6_NETWORK=fc00:5::/48\n\
             FLANNEL_IPV6_SUBNET=fc00:5:0:8::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
        );
        assert_eq!(
            file(r#"{"Network":"10.5.0.0/16"}"#, &subnets("10.5.60.0/24", "")).text,
            "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.60.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
        );
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

    #[test]
    fn a_wrong_line_costs_that_line() {
        for (text, expected) in [
            ("", None),
            ("rubbish\n\u{0}\n=\nFLANNEL_SUBNET=10.5.60.1/24\n", Some(subnets("10.5.60.0/24", ""))),
            ("# x\nexport FLANNEL_SUBNET=\"10.5.60.1/24\" # ours\r\n", Some(subnets("10.5.60.0/24", ""))),
            (" FLANNEL_SUBNET = '10.5.60.1/24'", Some(subnets("10.5.60.0/24", ""))),
            ("FLANNEL_SUBNET=10.5.60.1/24,10.5.61.1/24\n", None),
            ("FLANNEL_SUBNET=10.5.60.1/24,nonsense\n", Some(subnets("10.5.60.0/24", ""))),
            ("FLANNEL_SUBNET=\nFLANNEL_IPV6_SUBNET=fc00:5:0:8::1/64", Some(subnets("", "fc00:5:0:8::/64"))),
            ("FLANNEL_SUBNET=\"\nFLANNEL_MTU=1450", None),
            ("XFLANNEL_SUBNET=10.5.60.1/24\nexportFLANNEL_SUBNET=10.5.60.1/24", None),
        ] {
            assert_eq!(previous(text), expected, "{text:?}");
        }
    }
}
