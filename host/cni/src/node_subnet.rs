//! What this node's subnet file says. flanneld writes it when it has a subnet for the node, upstream's or this one.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use flannel_base::regular_file;
use flannel_base::text::excerpt;
use flannel_model::{prefix, subnet_file};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A file longer than this is no subnet file.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The node's subnet, as far as pods' interfaces have to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeSubnet {
    /// The cluster's networks, those of IPv4 first.
    pub(crate) networks: Vec<IpNet>,
    /// The subnet of this node's pods.
    pub(crate) ipv4: Option<Ipv4Net>,
    /// The same of IPv6.
    pub(crate) ipv6: Option<Ipv6Net>,
    /// Bytes of a pod's largest IP packet.
    pub(crate) mtu: u32,
    /// Whether flanneld masquerades what leaves the cluster's networks.
    pub(crate) ipmasq: bool,
}

/// Why pods cannot have addresses yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubnetFileError {
    /// There is no file.
    #[error(
        "{0}: no such file: this node has no subnet yet, or flanneld does not run here; its log says why (in Kubernetes, that of this node's flannel pod)"
    )]
    Absent(PathBuf),
    /// It cannot be read.
    #[error("{0}: cannot be read: {1}")]
    Unreadable(PathBuf, io::Error),
    /// It does not say all that is needed.
    #[error(
        "{file} is missing {missing}: flanneld writes it as a whole, so look at its log (in Kubernetes, that of this node's flannel pod), or at who else writes this file"
    )]
    Incomplete {
        /// The file.
        file: PathBuf,
        /// The variables, with commas.
        missing: String,
    },
    /// A value is none.
    #[error("{file}: {key} is {value:?}: right would be {right}")]
    Wrong {
        /// The file.
        file: PathBuf,
        /// The variable.
        key: &'static str,
        /// What it has.
        value: String,
        /// What it could have.
        right: &'static str,
    },
}

const A_NETWORK: &str = "an address and a prefix length, such as 10.244.0.0/16";
const A_NETWORK_V6: &str = "an address and a prefix length, such as fd00:10:244::/48";

impl NodeSubnet {
    /// Reads the file.
    pub(crate) fn read(file: &Path) -> Result<Self, SubnetFileError> {
        let bytes = regular_file::read(file, MAX_FILE_BYTES).map_err(|error| match error.kind() {
            ErrorKind::NotFound => SubnetFileError::Absent(file.to_owned()),
            _ => SubnetFileError::Unreadable(file.to_owned(), error),
        })?;
        Self::parse(&String::from_utf8_lossy(&bytes), file)
    }

    /// Of a key that is there twice, the last one counts, and what is empty is not there.
    fn parse(text: &str, file: &Path) -> Result<Self, SubnetFileError> {
        let find = |key: &str| {
            subnet_file::variables(text).filter(|(its, value)| *its == key && !value.is_empty()).last()
        };
        let read = |key: &'static str, right: &'static str| (find(key).map(|(_, value)| value), key, right);
        let wrong = |(value, key, right): (&str, &'static str, &'static str)| SubnetFileError::Wrong {
            file: file.to_owned(),
            key,
            value: excerpt(value),
            right,
        };
        let networks = |key, right, family: fn(&str) -> Option<IpNet>| {
            let (Some(list), key, right) = read(key, right) else { return Ok(None) };
            let mut networks: Vec<IpNet> = Vec::new();
            for part in list.split(',') {
                let network = family(part.trim()).ok_or_else(|| wrong((list, key, right)))?.trunc();
                if !networks.contains(&network) {
                    networks.push(network);
                }
            }
            Ok(Some(networks))
        };
        let v4 = |text: &str| prefix::ipv4(text).map(IpNet::V4);
        let v6 = |text: &str| prefix::ipv6(text).map(IpNet::V6);
        let ipv4_networks = networks("FLANNEL_NETWORK", A_NETWORK, v4)?;
        let ipv6_networks = networks("FLANNEL_IPV6_NETWORK", A_NETWORK_V6, v6)?;
        let ipv4 = one(read("FLANNEL_SUBNET", A_NETWORK), prefix::ipv4, wrong)?;
        let ipv6 = one(read("FLANNEL_IPV6_SUBNET", A_NETWORK_V6), prefix::ipv6, wrong)?;
        let mtu = one(read("FLANNEL_MTU", "a number of bytes"), |text| text.parse().ok(), wrong)?;
        let ipmasq = one(read("FLANNEL_IPMASQ", "true or false"), |text| text.parse().ok(), wrong)?;
        let mut missing = Vec::new();
        if ipv4_networks.is_none() && ipv6_networks.is_none() {
            missing.extend(["FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"]);
        }
        if ipv4.is_none() && ipv6.is_none() {
            missing.extend(["FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"]);
        }
        missing.extend(mtu.is_none().then_some("FLANNEL_MTU"));
        missing.extend(ipmasq.is_none().then_some("FLANNEL_IPMASQ"));
        match (mtu, ipmasq) {
            (Some(mtu), Some(ipmasq)) if missing.is_empty() => Ok(Self {
                networks: [ipv4_networks, ipv6_networks].into_iter().flatten().flatten().collect(),
                ipv4: ipv4.map(|net| net.trunc()),
                ipv6: ipv6.map(|net| net.trunc()),
                mtu,
                ipmasq,
            }),
            _ => Err(SubnetFileError::Incomplete { file: file.to_owned(), missing: missing.join(", ") }),
        }
    }
}

/// A value, if it is there.
fn one<T>(
    (value, key, right): (Option<&str>, &'static str, &'static str),
    read: fn(&str) -> Option<T>,
    wrong: impl Fn((&str, &'static str, &'static str)) -> SubnetFileError,
) -> Result<Option<T>, SubnetFileError> {
    value.map(|value| read(value).ok_or_else(|| wrong((value, key, right)))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "/run/flannel/subnet.env";
    const V4: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.7.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

    fn parse(text: &str) -> Result<NodeSubnet, String> {
        NodeSubnet::parse(text, Path::new(FILE)).map_err(|error| error.to_string())
    }

    #[test]
    fn subnets_and_networks_are_without_host_bits_and_each_network_is_there_once() {
        let text = "FLANNEL_NETWORK=10.0.0.0/8,10.244.3.0/16,10.1.2.3/8\nFLANNEL_IPV6_NETWORK=FC00:0005::/48\n\
                    FLANNEL_SUBNET=10.244.7.1/24\nFLANNEL_IPV6_SUBNET=fc00:5:0:8::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";
        let shown: Vec<String> =
            parse(text).expect("a subnet").networks.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "10.244.0.0/16", "fc00:5::/48"]);
        let subnet = parse(text).expect("a subnet");
        assert_eq!(subnet.ipv4.map(|net| net.to_string()).as_deref(), Some("10.244.7.0/24"));
        assert_eq!(subnet.ipv6.map(|net| net.to_string()).as_deref(), Some("fc00:5:0:8::/64"));
        assert_eq!((subnet.mtu, subnet.ipmasq), (1450, false));
    }

    #[test]
    fn all_that_is_missing_is_named_with_the_file_and_where_to_look() {
        let error = parse("FLANNEL_SUBNET=\n").expect_err("nothing is there");
        let all = "FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ";
        assert!(error.starts_with(&format!("{FILE} is missing {all}: ")) && error.contains("log"), "{error}");
        for (key, also) in [
            ("FLANNEL_NETWORK", ", FLANNEL_IPV6_NETWORK"),
            ("FLANNEL_SUBNET", ", FLANNEL_IPV6_SUBNET"),
            ("FLANNEL_MTU", ""),
            ("FLANNEL_IPMASQ", ""),
        ] {
            let without: Vec<&str> = V4.lines().filter(|line| !line.starts_with(key)).collect();
            let error = parse(&without.join("\n")).expect_err(key);
            assert!(error.starts_with(&format!("{FILE} is missing {key}{also}: ")), "{error}");
        }
    }

    #[test]
    fn a_value_that_is_none_is_shown_with_what_would_be_right() {
        for (key, value) in [
            ("FLANNEL_NETWORK", "10.244.0.0"),
            ("FLANNEL_NETWORK", "10.244.0.0/16,x"),
            ("FLANNEL_SUBNET", "fc00::1/64"),
            ("FLANNEL_SUBNET", "10.244.7.1/24,10.244.8.1/24"),
            ("FLANNEL_IPV6_NETWORK", "10.244.0.0/16"),
            ("FLANNEL_IPV6_SUBNET", "::/129"),
            ("FLANNEL_MTU", "-1"),
            ("FLANNEL_IPMASQ", "yes"),
        ] {
            let error = parse(&format!("{V4}{key}={value}\n")).expect_err(value);
            assert!(error.starts_with(&format!("{FILE}: {key} is {value:?}: right would be ")), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_said_to_be_flannelds() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("subnet.env");
        let error = NodeSubnet::read(&file).expect_err("no file").to_string();
        assert!(error.contains("subnet.env: no such file") && error.contains("flanneld"), "{error}");
        let error = NodeSubnet::read(directory.path()).expect_err("no file").to_string();
        assert!(error.ends_with("cannot be read: it is no regular file"), "{error}");
    }
}
