//! How our annotations on nodes are called: what they all begin with, and what each of them ends with.
//!
//! Several daemons can share a cluster's nodes, each with a prefix of its own.

use flannel_base::Family;
use flannel_base::text::excerpt;

/// Bytes of a key's part before the slash, at most; Kubernetes' own limit.
const LONGEST_DOMAIN: usize = 253;
/// Bytes of the part behind it, at most; Kubernetes' own limit.
const LONGEST_NAME: usize = 63;
/// The longest of the suffixes.
const LONGEST_SUFFIX: &str = "public-ipv6-overwrite";

/// Why a prefix is none; one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--kube-annotation-prefix {value:?}: {reason}; right would be a lower-case name with a dot, such as flannel.alpha.coreos.com, and behind a slash at most a lower-case word, such as example.com/blue"
)]
pub struct PrefixError {
    value: String,
    reason: &'static str,
}

/// The keys of all annotations that are read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// What they all begin with: `flannel.alpha.coreos.com/`.
    pub prefix: String,
    /// Written: `true`. Who says anything else is no peer.
    pub subnet_manager: String,
    /// Written: the backend's type; an empty text for udp and alloc.
    pub backend_type: String,
    /// Written: what the backend publishes for IPv4; `null` if nothing.
    pub backend_data: String,
    /// Written: what the backend publishes for IPv6.
    pub backend_v6_data: String,
    /// Written: where the node is reached over IPv4.
    pub public_ip: String,
    /// Written: where the node is reached over IPv6.
    pub public_ipv6: String,
    /// Read: an operator's address, published in place of the node's own IPv4 address.
    pub public_ip_overwrite: String,
    /// Read: the same for IPv6.
    pub public_ipv6_overwrite: String,
    /// Read: an address by which the external interface is chosen, in place of `--public-ip`.
    pub node_public_ip: String,
    /// Read: the same in place of `--public-ipv6`.
    pub node_public_ipv6: String,
    /// Written, ours alone: the node's subnets, for who has read the metadata only. A comma between them.
    pub pod_cidrs: String,
    /// Written, ours alone: the generations that the node serves during a change of the backend, as in a lease in etcd.
    pub generations: String,
}

impl Keys {
    /// Reads a prefix by upstream's rules: without a slash it gets one at its end, and behind a slash a hyphen.
    ///
    /// Upper case before the last dots but one, which upstream lets pass here and no API server does, is refused, too.
    pub fn new(prefix: &str) -> Result<Self, PrefixError> {
        let wrong = |reason| PrefixError { value: excerpt(prefix), reason };
        let (domain, name) = match prefix.split_once('/') {
            None => (prefix, String::new()),
            Some((domain, "")) => (domain, String::new()),
            Some((_, name)) if name.contains('/') => return Err(wrong("it has more than one slash")),
            Some((domain, name)) if name.ends_with('-') => (domain, name.to_owned()),
            Some((domain, name)) => (domain, format!("{name}-")),
        };
        let is_word = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
        };
        if !domain.contains('.') || !domain.split('.').all(is_word) {
            return Err(wrong("what is before the slash is no lower-case name with a dot"));
        }
        // A lone hyphen is no word in front of one.
        if !name.is_empty() && (name == "-" || !is_word(&name)) {
            return Err(wrong("what is behind the slash is no lower-case word"));
        }
        if domain.len() > LONGEST_DOMAIN || name.len() + LONGEST_SUFFIX.len() > LONGEST_NAME {
            return Err(wrong("it is longer than Kubernetes takes it"));
        }
        Ok(Self::with(&format!("{domain}/{name}")))
    }

    fn with(prefix: &str) -> Self {
        let key = |suffix: &str| format!("{prefix}{suffix}");
        Self {
            subnet_manager: key("kube-subnet-manager"),
            backend_type: key("backend-type"),
            backend_data: key("backend-data"),
            backend_v6_data: key("backend-v6-data"),
            public_ip: key("public-ip"),
            public_ipv6: key("public-ipv6"),
            public_ip_overwrite: key("public-ip-overwrite"),
            public_ipv6_overwrite: key(LONGEST_SUFFIX),
            node_public_ip: key("node-public-ip"),
            node_public_ipv6: key("node-public-ipv6"),
            pod_cidrs: key("pod-cidrs"),
            generations: key("generations"),
            prefix: prefix.to_owned(),
        }
    }

    /// What a backend publishes for a family.
    pub fn data(&self, family: Family) -> &str {
        match family {
            Family::Ipv4 => &self.backend_data,
            Family::Ipv6 => &self.backend_v6_data,
        }
    }

    /// Where a node is reached over a family.
    pub fn address(&self, family: Family) -> &str {
        match family {
            Family::Ipv4 => &self.public_ip,
            Family::Ipv6 => &self.public_ipv6,
        }
    }

    /// An operator's address in place of a node's own.
    pub fn overwrite(&self, family: Family) -> &str {
        match family {
            Family::Ipv4 => &self.public_ip_overwrite,
            Family::Ipv6 => &self.public_ipv6_overwrite,
        }
    }

    /// The address by which the external interface is chosen.
    pub fn node_address(&self, family: Family) -> &str {
        match family {
            Family::Ipv4 => &self.node_public_ip,
            Family::Ipv6 => &self.node_public_ipv6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_completed_as_upstream_does() {
        for (written, key) in [
            ("flannel.alpha.coreos.com", "flannel.alpha.coreos.com/backend-type"),
            ("flannel.alpha.coreos.com/", "flannel.alpha.coreos.com/backend-type"),
            ("example.com/foo", "example.com/foo-backend-type"),
            ("example.com/foo-", "example.com/foo-backend-type"),
            ("example.com/a_b-c", "example.com/a_b-c-backend-type"),
            ("a-b.c_d/1", "a-b.c_d/1-backend-type"),
        ] {
            assert_eq!(Keys::new(written).map(|keys| keys.backend_type).as_deref(), Ok(key), "{written}");
        }
    }

    #[test]
    fn what_upstream_or_an_api_server_refuses_is_refused() {
        let long = format!("example.com/{}", "x".repeat(42));
        for written in [
            "",
            "/",
            "-",
            "foo",
            "foo/bar",
            "EXAMPLE.com",
            "EXAMPLE.foo.com",
            "example.com/foo/bar",
            "example.com//",
            "example.com/Foo",
            "example.com/fo o",
            "example.com/-",
            "example.com/fo.o",
            "example..com",
            ".com",
            "com.",
            "example.com/é",
            "x.\n",
            &long,
            &format!("{}.com", "x".repeat(250)),
            &"x.".repeat(1 << 20),
        ] {
            let error = Keys::new(written).expect_err(written).to_string();
            assert!(error.lines().count() == 1 && error.len() < 600, "{error}");
        }
    }

    #[test]
    fn all_keys_begin_with_the_prefix_and_end_as_upstreams() {
        let keys = Keys::new("example.com/blue").expect("a prefix");
        let all = [
            (&keys.subnet_manager, "kube-subnet-manager"),
            (&keys.backend_data, "backend-data"),
            (&keys.backend_v6_data, "backend-v6-data"),
            (&keys.public_ip, "public-ip"),
            (&keys.public_ipv6, "public-ipv6"),
            (&keys.public_ip_overwrite, "public-ip-overwrite"),
            (&keys.public_ipv6_overwrite, "public-ipv6-overwrite"),
            (&keys.node_public_ip, "node-public-ip"),
            (&keys.node_public_ipv6, "node-public-ipv6"),
            (&keys.pod_cidrs, "pod-cidrs"),
            (&keys.generations, "generations"),
        ];
        for (key, suffix) in all {
            assert_eq!(key.strip_prefix(&keys.prefix), Some(suffix));
        }
    }
}
