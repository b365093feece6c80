//! The backends that a cluster can have, and what each needs of this machine.

use anyhow::Result;

use crate::Namespace;
use crate::vtep::Vtep;

/// A preshared key for IPsec, which no other cluster has.
pub const PSK: &str = "a-preshared-key-of-the-lab-that-has-ninety-six-characters-and-some-more-so-that-it-is-long-enough-for-all";
/// Adds a state of ESP.
const STATE: &str = "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x100 mode tunnel \
                     aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128";

/// A backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// A VXLAN overlay.
    #[default]
    Vxlan,
    /// Routes to peers on the same link.
    HostGw,
    /// Nothing but a lease.
    Alloc,
    /// An IPIP overlay.
    Ipip,
    /// An encrypted overlay.
    Wireguard,
    /// An overlay that the daemon itself carries.
    Udp,
    /// Rows in the route tables of a VPC of Amazon's.
    AwsVpc,
    /// Routes of Google's Compute Engine.
    Gce,
    /// Entries in a route table of Alibaba's.
    AliVpc,
    /// Routes in a route table of Tencent's.
    TencentVpc,
    /// Routes of a network of Hetzner's.
    Hetzner,
    /// ESP in tunnel mode.
    Ipsec,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Vxlan,
        Self::HostGw,
        Self::Alloc,
        Self::Ipip,
        Self::Wireguard,
        Self::Udp,
        Self::AwsVpc,
        Self::Gce,
        Self::AliVpc,
        Self::TencentVpc,
        Self::Hetzner,
        Self::Ipsec,
    ];

    /// `Backend.Type`, and the name of the plugin.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
            Self::Alloc => "alloc",
            Self::Ipip => "ipip",
            Self::Wireguard => "wireguard",
            Self::Udp => "udp",
            Self::AwsVpc => "aws-vpc",
            Self::Gce => "gce",
            Self::AliVpc => "ali-vpc",
            Self::TencentVpc => "tencent-vpc",
            Self::Hetzner => "hetzner",
            Self::Ipsec => "ipsec",
        }
    }

    /// A network config, with IPv4 or with both families.
    pub fn config(self, ipv6: bool) -> String {
        let families = if ipv6 { r#","EnableIPv6":true,"IPv6Network":"fc00:5::/48""# } else { "" };
        format!(r#"{{"Network":"10.5.0.0/16"{families},"Backend":{}}}"#, self.section())
    }

    /// The `Backend` section of [`Backend::config`].
    pub fn section(self) -> String {
        let more = match self {
            Self::Hetzner => format!(r#","NetworkID":{}"#, crate::cloud::hetzner::NETWORK),
            Self::Ipsec => format!(r#","PSK":"{PSK}""#),
            _ => String::new(),
        };
        format!(r#"{{"Type":"{}"{more}}}"#, self.name())
    }

    /// Whether it makes pods on different nodes reach each other.
    pub fn connects(self) -> bool {
        self != Self::Alloc
    }

    /// Whether packets pass through the daemon, so that none passes while it is away.
    pub fn is_the_daemon(self) -> bool {
        self == Self::Udp
    }

    /// Whether it can carry IPv6 here.
    pub fn has_ipv6(self) -> bool {
        self != Self::Ipip && !self.is_cloud()
    }

    /// Whether routes are rows in a cloud's table, and none of the kernel's.
    pub fn is_cloud(self) -> bool {
        matches!(self, Self::AwsVpc | Self::Gce | Self::AliVpc | Self::TencentVpc | Self::Hetzner)
    }

    /// Whether each peer has a route of its own; otherwise one route leads to a device that knows all peers.
    pub fn routes_each_peer(self) -> bool {
        matches!(self, Self::Vxlan | Self::HostGw | Self::Ipip)
    }

    /// The cluster networks of [`Backend::config`].
    pub fn networks(self, ipv6: bool) -> Vec<&'static str> {
        if ipv6 { vec!["10.5.0.0/16", "fc00:5::/48"] } else { vec!["10.5.0.0/16"] }
    }

    /// The devices that it makes.
    pub fn devices(self, ipv6: bool) -> Vec<&'static str> {
        let of = |v4, v6| if ipv6 { vec![v4, v6] } else { vec![v4] };
        if self.is_cloud() {
            return Vec::new();
        }
        match self {
            Self::Vxlan => of(Vtep::DEVICES[0], Vtep::DEVICES[1]),
            Self::Ipip => vec!["flannel.ipip"],
            Self::Wireguard => of("flannel-wg", "flannel-wg-v6"),
            Self::Udp => vec!["flannel0"],
            Self::Ipsec => vec!["flannel-ipsec"],
            _ => Vec::new(),
        }
    }

    /// Why this machine cannot have it; none: it can.
    pub fn missing(self) -> Result<Option<String>> {
        let kind = match self {
            Self::HostGw | Self::Alloc | Self::Gce | Self::AliVpc | Self::TencentVpc | Self::Hetzner => {
                return Ok(None);
            }
            Self::AwsVpc => return crate::cloud::python::missing(),
            Self::Udp if std::path::Path::new("/dev/net/tun").exists() => return Ok(None),
            Self::Udp => return Ok(Some("there is no /dev/net/tun (module tun)".to_owned())),
            Self::Vxlan => "vxlan id 1 dstport 8472",
            Self::Ipip => "ipip local 192.0.2.1",
            Self::Wireguard => "wireguard",
            Self::Ipsec => "xfrm if_id 1",
        };
        let space = Namespace::new("a namespace to try a device in")?;
        if self == Self::Ipsec
            && let Err(error) = space.ip(STATE)
        {
            return Ok(Some(format!("this kernel has no ESP (modules esp4, esp6): {error:#}")));
        }
        let made = space.ip(&format!("link add probe type {kind}"));
        Ok(made.err().map(|error| {
            let word = kind.split(' ').next().unwrap_or_default();
            format!("this kernel has no {word} devices (module {word}): {error:#}")
        }))
    }
}

impl std::str::FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|backend| backend.name() == text);
        let names = Self::ALL.map(Self::name).join(", ");
        found.ok_or_else(|| format!("{text:?} is none of {names}"))
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
